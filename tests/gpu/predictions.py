"""What the planner says about the check's scenarios: memory by moment, tokens per second, model FLOP utilisation. Used by the report."""

from dataclasses import dataclass, replace
from typing import Any

from finetune_operator.api.pools import Interconnect
from finetune_operator.planning.layouts import PLAIN, Layout, Work
from finetune_operator.planning.memory.estimate import MemoryEstimate, estimate
from finetune_operator.planning.memory.loading import loading_bytes
from finetune_operator.planning.memory.our_trainer import scenario_for
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.pool_gpu import speed_of
from finetune_operator.planning.pools.gpus import Gpu, gpu
from finetune_operator.planning.search import Question, work_of
from finetune_operator.planning.speed.step import tokens_per_second
from finetune_operator.planning.speed.utilisation import flops_per_token, utilisation

from tests.gpu.scenarios import LOADED, PLANNED, Scenario
from tests.simulated.cases import layout_of
from tests.unit.planning.planning_builders import a_preflight, a_spec

GIB = 2**30
SCENARIOS = {one.name: one for one in (*PLANNED, *LOADED)}


def memory_of(scenario: Scenario) -> MemoryEstimate:
    """Return the estimate of the steps; loading has a part of its own."""
    return estimate(scenario_for(architecture(scenario.config), layout_of(scenario.case)), loads=False)


def loading_gib(scenario: Scenario) -> float:
    """Return what the card holds at most while the model loads."""
    return loading_bytes(scenario_for(architecture(scenario.config), layout_of(scenario.case))) / GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedPrediction:
    """Of one scenario on one card."""

    work: Work
    layout: Layout
    entry: Gpu

    @property
    def tokens_per_second(self) -> float:
        """What the planner counts with."""
        return tokens_per_second(self.work, self.layout, speed_of(self.entry), Interconnect())

    def utilisation(self, reached: float) -> float:
        """Return the share of the card's peak that so many tokens per second are."""
        found = utilisation(reached, flops_per_token(self.work), gpus=1, peak=self.entry.tflops)
        assert found is not None
        return found


def speed_prediction(scenario: Scenario, card: str, tokens: list[float]) -> SpeedPrediction | None:
    """Return the prediction for the rows that were measured; None for a card that the catalogue lacks."""
    entry = gpu(card)
    if entry is None:
        return None
    case = scenario.case
    rows = case.micro_batch_size * case.accumulation
    layout = Layout(
        method=_method(case.method), replicas=1, gpus_per_replica=1, rung=PLAIN,
        activation_checkpointing=case.activation_checkpointing, micro_batch_size=case.micro_batch_size,
        gradient_accumulation_steps=case.accumulation,
    )  # fmt: skip
    return SpeedPrediction(work=_work(scenario, sum(tokens) / len(tokens) / rows), layout=layout, entry=entry)


def _method(method: str) -> Any:  # the case holds a plain string
    return method


def _work(scenario: Scenario, mean_tokens: float) -> Work:
    """Return what the run computes, with the row length that was measured."""
    case, shape = scenario.case, architecture(scenario.config)
    training = {
        "sequenceLength": case.sequence_length, "optimizer": case.optimizer, "packing": "always" if case.packing else "never",
    }  # fmt: skip
    if case.method == "full":
        training["precision"] = case.precision
    adapter = {} if case.method == "full" else {"lora": {"rank": case.lora_rank, "variant": case.variant}}
    question = Question(
        spec=a_spec(method=case.method, training=training, **adapter), architecture=shape,
        preflight=a_preflight(sequence_length=case.sequence_length), pools=(),
    )  # fmt: skip
    work = work_of(question, _method(case.method))
    documents = mean_tokens / 4 if case.packing else mean_tokens  # as training.lengths_of makes them
    return replace(work, mean_tokens=mean_tokens, long_tokens=case.sequence_length, evaluation_tokens=documents)
