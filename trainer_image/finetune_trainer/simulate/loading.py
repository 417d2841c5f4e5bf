"""The base model of a run as it loads, on fake tensors, and the peak of memory meanwhile. Used by simulate.command."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from finetune_contract import RunConfig
from torch._subclasses.fake_tensor import FakeTensorMode

from finetune_trainer.model.precision import computation
from finetune_trainer.simulate.kernels import emulated
from finetune_trainer.simulate.ledger import Ledger, Peak
from finetune_trainer.simulate.model import fake_base_model, prepare_packing
from finetune_trainer.simulate.ranks import one_rank_of
from finetune_trainer.training.settings import trainer_settings


def load_peak(run: RunConfig, config: Any) -> Peak:
    """Return the peak of loading the base model, on rank 0."""
    numbers = computation(run.method, run.training.precision, device="cuda")
    prepare_packing()
    ledger = Ledger()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(one_rank_of(run.layout))
        stack.enter_context(emulated(unequal_rows=False))
        # transformers' loader shards where these settings, which nothing else reads here, have been made.
        _settings = trainer_settings(run, numbers, folder=Path(folder), steps=2, end_to_end=False)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(ledger)
        _model = fake_base_model(config, run, numbers, ledger)
        return ledger.peak
