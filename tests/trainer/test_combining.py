"""Several adapters as one: the arithmetic against PEFT's own updates, and what does not go together."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import CombineConfig, WeightedAdapter
from finetune_contract.data import Location
from finetune_operator.cli.app import app
from finetune_trainer.combining.combine import combine
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.trainer.running import IN_PROCESS
from tests.trainer.tiny import tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), "qwen2")


def adapter(folder: Path, base: Path, seed: int, **parts: Any) -> Path:
    """Save an adapter with random weights."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**{**LORA, **parts}))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


def updates(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    """What PEFT adds to each layer, by its own arithmetic."""
    return deltas(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder), "default")


def deltas(model: PeftModel, name: str) -> dict[str, torch.Tensor]:
    layers = ((key, module) for key, module in model.named_modules() if isinstance(module, LoraLayer))
    return {key: module.get_delta_weight(name).detach() for key, module in layers if name in module.lora_A}


def asked(tmp_path: Path, *adapters: tuple[Path, float], **parts: Any) -> CombineConfig:
    values: dict[str, Any] = {"method": "average", "rank": 0, "density": 0.5, "seed": 42}
    given = tuple(WeightedAdapter(location=Location(uri=f"file://{path}"), weight=weight) for path, weight in adapters)
    return CombineConfig(adapters=given, output=Location(uri=f"file://{tmp_path}/out"), **{**values, **parts})


def made(config: CombineConfig, tmp_path: Path) -> str:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return combine(config, scratch)


def test_a_federated_average_is_the_weighted_sum_of_the_updates(tmp_path: Path, base: Path) -> None:
    """Three adapters of different scales, ranks and layers, weighted by their rows: PEFT loads what is exactly their mean."""
    folders = (
        adapter(tmp_path / "one", base, 1),
        adapter(tmp_path / "two", base, 2, use_rslora=True, r=8),
        adapter(tmp_path / "three", base, 3, alpha_pattern={"v_proj": 32}, target_modules=["v_proj", "o_proj"]),
    )
    said = made(asked(tmp_path, *zip(folders, (100, 300, 600), strict=True)), tmp_path)

    found, parts = updates(base, tmp_path / "out"), [updates(base, folder) for folder in folders]
    assert len(found) == 6
    for name, matrix in found.items():
        pairs = zip((0.1, 0.3, 0.6), parts, strict=True)
        wanted = sum((weight * part[name] for weight, part in pairs if name in part), torch.zeros_like(matrix))
        assert torch.allclose(matrix, wanted, atol=1e-5, rtol=0)
    assert said == (
        f"3 adapters combined by average: LoRA rank 16, at file://{tmp_path}/out; served by vllm, sglang, tgi, llama.cpp"
    )


def test_weights_of_a_sum_are_as_given(tmp_path: Path, base: Path) -> None:
    """Subtracting an adapter takes away what it has learned."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    made(asked(tmp_path, (one, 1.0), (two, -0.5), method="linear"), tmp_path)

    found, first, second = (updates(base, folder) for folder in (tmp_path / "out", one, two))
    assert all(torch.allclose(found[name], first[name] - 0.5 * second[name], atol=1e-5, rtol=0) for name in found)


def test_where_answers_end_is_kept(tmp_path: Path, base: Path) -> None:
    """The merged adapter stops where any of them does; a generation_config.json of its own says so to servers."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    (two / "generation_config.json").write_text('{"eos_token_id": [2, 4], "top_p": 0.8}')
    said = made(asked(tmp_path, (one, 0.5), (two, 0.5)), tmp_path)

    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {
        "eos_token_id": [2, 4],
        "top_p": 0.8,
    }
    assert "vllm (--generation-config FOLDER)" in said


def test_what_a_trainer_left_beside_an_adapter_is_not_fetched(tmp_path: Path, base: Path) -> None:
    """Checkpoints and pickles are many times its size: the Pod's disk is planned for the adapter."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    (two / "checkpoint-50").mkdir()
    for name in ("checkpoint-50/optimizer.pt", "checkpoint-50/adapter_model.safetensors", "training_args.bin"):
        (two / name).write_bytes(b"not read")
    made(asked(tmp_path, (one, 1), (two, 1)), tmp_path)

    fetched = {path.relative_to(tmp_path / "scratch/1").as_posix() for path in (tmp_path / "scratch/1").rglob("*")}
    assert fetched == {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def test_svd_is_the_nearest_adapter_of_its_rank(tmp_path: Path, base: Path) -> None:
    """No adapter of rank 4 is nearer to the sum than its four largest singular values."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    made(asked(tmp_path, (one, 0.5), (two, 0.5), method="svd"), tmp_path)

    found, first, second = (updates(base, folder) for folder in (tmp_path / "out", one, two))
    for name, matrix in found.items():
        wanted = 0.5 * first[name] + 0.5 * second[name]
        rest = torch.linalg.svdvals(wanted)[4:].square().sum().sqrt()
        assert torch.linalg.matrix_rank(matrix, rtol=1e-4) == 4
        assert float((matrix - wanted).norm()) == pytest.approx(float(rest), rel=1e-3)


def test_ties_is_pefts_own(tmp_path: Path, base: Path) -> None:
    """The same as add_weighted_adapter with ties_svd, where that is right: adapters of one kind and rank."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    made(asked(tmp_path, (one, 0.7), (two, 0.3), method="ties", density=0.4), tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), one, adapter_name="one")
    model.load_adapter(two, adapter_name="two")
    model.add_weighted_adapter(["one", "two"], [0.7, 0.3], "both", combination_type="ties_svd", density=0.4)

    found, wanted = updates(base, tmp_path / "out"), deltas(model, "both")
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in found)


def test_dare_is_the_same_for_the_same_seed(tmp_path: Path, base: Path) -> None:
    """And another one for another seed; the state of torch's own generator does not matter."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    found = []
    for number, seed in enumerate((7, 7, 8)):
        torch.manual_seed(number)
        place = tmp_path / str(number)
        place.mkdir()
        made(asked(place, (one, 0.5), (two, 0.5), method="dare", seed=seed), place)
        found.append(updates(base, place / "out"))

    assert [all(torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(found)] == [True, False]


@pytest.mark.parametrize(
    "parts",
    [
        {"exclude_modules": ["o_proj"]},
        {"exclude_modules": r".*layers\.0\..*"},
        {"layers_to_transform": [0], "layers_pattern": "layers"},
        {"rank_pattern": {"q_proj": 8}, "use_rslora": True},
    ],
)
def test_what_the_first_adapter_leaves_out_is_not_left_out_of_the_second(
    tmp_path: Path, base: Path, parts: dict[str, Any]
) -> None:
    """PEFT loads every layer of the result, whatever the configuration of the first adapter says of its own."""
    one = adapter(tmp_path / "one", base, 1, **parts)
    two = adapter(tmp_path / "two", base, 2, target_modules=["q_proj", "v_proj", "o_proj"])
    made(asked(tmp_path, (one, 0.5), (two, 0.5)), tmp_path)

    found, first, second = (updates(base, folder) for folder in (tmp_path / "out", one, two))
    assert found.keys() == second.keys()
    for name, matrix in found.items():
        wanted = 0.5 * second[name] + (0.5 * first[name] if name in first else 0)
        assert torch.allclose(matrix, wanted, atol=1e-5, rtol=0)


def test_an_adapter_without_an_alpha_has_pefts_own(tmp_path: Path, base: Path) -> None:
    """Adapters of other tools leave out what is the default: the update is what PEFT makes of the same files."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    for folder in (one, two):
        described = json.loads((folder / "adapter_config.json").read_text())
        kept = ("base_model_name_or_path", "peft_type", "r", "target_modules", "task_type")
        (folder / "adapter_config.json").write_text(json.dumps({key: described[key] for key in kept}))
    made(asked(tmp_path, (one, 1), (two, 1), method="linear"), tmp_path)

    found, first, second = (updates(base, folder) for folder in (tmp_path / "out", one, two))
    assert all(torch.allclose(found[name], first[name] + second[name], atol=1e-5, rtol=0) for name in found)


def test_a_command_combines_folders_of_this_machine(tmp_path: Path, base: Path) -> None:
    """The provenance says what of; a second result never takes its place."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    words = ["merge", f"{one}=3", f"{two}=1", "--to", str(tmp_path / "out")]
    done, again = CliRunner().invoke(app, words), CliRunner().invoke(app, words)

    assert done.output.startswith("2 adapters combined by average: LoRA rank 8, at file://"), repr(done.exception)
    manifest = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    assert [each["weight"] for each in manifest["combined"]] == [3.0, 1.0]
    assert "holds a result already: choose another folder" in repr(again.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--to", "b"], "there is only one adapter to combine"),
        (["a=x", "b", "--to", "c"], "'x' is not a weight, such as 0.5"),
        (["a=1", "b=-1", "--to", "c"], "must add up to more than 0"),
        (["a", "b", "--to", "c", "--seed", "1"], "--seed is for dare, not for average"),
        (["a", "b", "--to", "c", "--method", "svd", "--density", "0.5"], "--density is for ties and dare, not for svd"),
    ],
)
def test_options_that_say_nothing_are_refused(words: list[str], message: str) -> None:
    """Before anything is read."""
    done = CliRunner().invoke(app, ["merge", *words])

    assert done.exit_code != 0
    assert message in " ".join(done.output.split())
