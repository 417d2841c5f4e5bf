"""What the speed model says about experts, against the transformers that the trainer uses."""

import importlib
import inspect

import pytest
from finetune_operator.planning.models.family_table import FAMILIES
from finetune_operator.planning.speed.one_pass import COMPUTES_EVERY_EXPERT
from transformers import CONFIG_MAPPING

pytestmark = pytest.mark.trainer

MIXTURES = sorted(name for name, family in FAMILIES.items() if family.moe is not None)


def modeling_source(model_type: str) -> str:
    """Return the source of the module that builds a model type."""
    package = CONFIG_MAPPING[model_type].__module__.rpartition(".configuration_")[0]
    return inspect.getsource(importlib.import_module(f"{package}.modeling_{package.rpartition('.')[2]}"))


def test_the_mixtures_were_found():
    """An empty table would prove nothing."""
    assert {"mixtral", "qwen3_moe", "llama4_text", "gpt_oss", "deepseek_v3"} <= set(MIXTURES)


@pytest.mark.parametrize("model_type", MIXTURES)
def test_experts_are_grouped_where_the_speed_model_says_so(model_type: str):
    """A family that transformers begins or ceases to group is a different price: six times so for Llama 4 Scout."""
    grouped = "@use_experts_implementation" in modeling_source(model_type)

    assert grouped == (model_type not in COMPUTES_EVERY_EXPERT)
