"""Part 4: what the card holds while a model loads, against what is left of it: qlora, stacked experts, a full fine-tune as at ZeRO-2."""

import resource
import time

from finetune_trainer.model.precision import computation

from tests.gpu.card import Card, free, peaks, reset_peaks
from tests.gpu.scenarios import LOADED, of_the_card
from tests.gpu.training import loaded
from tests.simulated.cases import run_of


def check(card: Card) -> None:
    """Load each model once."""
    for named in LOADED:
        scenario = of_the_card(named, reduced=card.reduced)
        run = run_of(scenario.case)
        numbers = computation(run.method, run.training.precision, device=card.device)
        reset_peaks()
        started = time.perf_counter()
        built = loaded(run, scenario.config, numbers)
        card.say(
            {
                "name": named.name, "loadSeconds": round(time.perf_counter() - started, 2), **peaks(),
                "hostPeakGiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                "parameters": sum(parameter.numel() for parameter in built.parameters()),
            }
        )  # fmt: skip
        del built
        free()
