"""A mixture of experts that a Pod without GPUs publishes: some store all experts of a layer as one tensor (gpt-oss, Llama 4)."""

import math

from finetune_operator.planning.planner import plan

from tests.unit.planning.planning_builders import a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import MODELS

MIXTRAL, SIZE = MODELS["mixtral"]


def test_there_is_memory_for_all_experts_of_a_layer():
    """A tensor is in memory as the checkpoint has it and as it is published: else the Pod is killed, and again with half as much more."""
    run = plan(
        a_spec(method="full", resources={"gpus": 32}), architecture=MIXTRAL, preflight=a_preflight(model_bytes=SIZE),
        pools=(a_pool("h100", gpusPerNode=8),), image="i",
    ).plan  # fmt: skip

    assert run.export is not None
    assert run.export.publishes
    experts = 8 * 2 * 14_336 * 4096
    assert run.export.memory_gib == math.ceil(2.5 + 1 + (2 + 2) * experts / 2**30) == 7
