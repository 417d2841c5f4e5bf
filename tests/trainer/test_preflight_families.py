"""Every family that can be planned passes preflight as transformers saves it, and its table is the one of transformers' classes."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import Model
from finetune_operator.planning.models.family_table import FAMILIES
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.completeness import families
from finetune_trainer.preflight.layout import TABLE
from finetune_trainer.preflight.model import ExaminedModel, check_complete, examine_model
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from tests.trainer.data_inputs import at, tokenizer
from tests.trainer.test_architecture_exact import CASES, SMALL
from tests.trainer.weight_names import fitting, table, written

pytestmark = pytest.mark.trainer


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let file:// be read."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


@lru_cache(maxsize=1)
def _words() -> Any:
    return tokenizer()


def saved(folder: Path, kind: str, overrides: dict[str, Any], **how: Any) -> Path:
    """Save a random model of a family as transformers does, with a tokenizer."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**fitting(kind, SMALL | {"vocab_size": 512} | overrides))
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder, **how)
    _words().save_pretrained(folder)
    return folder


def examined(folder: Path) -> ExaminedModel:
    """Examine a model folder and compare all names."""
    found = examine_model(Model(location=at(folder)), folder / "unused")
    check_complete(found, f"file://{folder}")
    return found


def test_the_families_are_those_that_can_be_planned() -> None:
    """Preflight refuses what the planner would refuse, and nothing else."""
    assert set(families()) == set(FAMILIES)


def test_the_table_is_the_one_of_the_installed_transformers() -> None:
    """`python -m tests.trainer.weight_names` writes it anew."""
    assert written(table()) == TABLE.read_text()


@pytest.mark.parametrize(("kind", "overrides"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("tied", [None, True])
def test_a_model_as_transformers_saves_it_passes(
    tmp_path: Path, kind: str, overrides: dict[str, Any], tied: Any
) -> None:
    """In one file and in parts, tied or as its class says."""
    settings = overrides if tied is None else overrides | {"tie_word_embeddings": tied}
    single = examined(saved(tmp_path / "single", kind, settings))
    parts = examined(saved(tmp_path / "parts", kind, settings, max_shard_size="300KB"))

    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    assert {name: tensor.shape for name, tensor in single.tensors.items()} == {
        name: tensor.shape for name, tensor in parts.tensors.items()
    }


@pytest.mark.parametrize(("kind", "overrides"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_tensor_that_is_lost_or_renamed_is_found(tmp_path: Path, kind: str, overrides: dict[str, Any]) -> None:
    """One matrix of the last layer gone, then a tensor too many there, then a prefix before all names."""
    file = saved(tmp_path / "model", kind, overrides) / "model.safetensors"
    tensors = load_file(file)
    victim = next(
        name for name in sorted(tensors) if ".3." in name and name.endswith(("o_proj.weight", "dense.weight"))
    )

    def refusal(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, file, metadata={"format": "pt"})
        with pytest.raises(UserError) as found:
            examined(file.parent)
        assert found.value.reason == "ModelInvalid"
        return found.value.message

    uri = f"file://{file.parent}"
    lost = {name: tensor for name, tensor in tensors.items() if name != victim}
    assert refusal(lost).startswith(
        f"{uri} lacks 1 of the tensors that its config.json asks for: {victim}. They would be filled"
    )
    more = victim.replace("weight", "gamma")
    assert refusal(tensors | {more: torch.ones(1)}).startswith(
        f"{uri} holds 1 tensor that a model of type {kind} does not have with this config.json: {more}."
    )
    assert refusal({f"net.{name}": tensor for name, tensor in tensors.items()}).startswith(
        f"none of the {len(tensors)} tensors of {uri} belongs to a layer of its model type: they are named net."
    )
