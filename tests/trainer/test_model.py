"""What is quantised, what is frozen, what an adapter is put on, and which numbers a run computes in."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from finetune_contract import Lora, RunConfig
from finetune_trainer.errors import UserError
from finetune_trainer.model import load as models
from finetune_trainer.model import targets
from finetune_trainer.model.precision import computation, float32_adapters, stored_as
from finetune_trainer.simulate.ledger import Ledger
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

from tests.trainer.running import IN_PROCESS, carried_out, losses, stopped_at, trained
from tests.trainer.tiny import A_LORA, SHAPE, a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("mixtral"), "mixtral")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def _built(folder: Path, run: RunConfig) -> torch.nn.Module:
    return models.base_model(folder, run, computation(run.method, run.training.precision, device="cpu"))


def test_qlora_stores_every_linear_layer_but_the_head_in_nf4(tmp_path: Path, llama: Path, data: Path) -> None:
    """Double quantised, 4 bit, and the rest as it was."""
    built = _built(llama, a_run(tmp_path, model=llama, data=data, method="qlora"))
    quantised = [module.weight for module in built.modules() if type(module).__name__ == "Linear4bit"]

    assert len(quantised) == 2 * 7
    assert {(weight.quant_state.quant_type, weight.quant_state.nested) for weight in quantised} == {("nf4", True)}
    assert sum(weight.numel() * weight.element_size() for weight in quantised) == 2 * 36_864 // 2
    assert built.lm_head.weight.dtype == torch.float32


def test_a_measurement_leaves_packed_weights_trainable(
    tmp_path: Path, llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs with AVX-512 BF16 bitsandbytes would lay them out for a kernel without gradients, at the first answer."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    built = _built(llama, a_run(tmp_path, model=llama, data=data, method="qlora"))
    layer = built.model.layers[0].mlp.gate_proj
    before = layer.weight.detach().clone()
    with torch.no_grad():
        built.eval()(torch.arange(20)[None])

    assert torch.equal(layer.weight, before)
    inputs = torch.ones(2, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer.train()(inputs).sum(), inputs)
    assert torch.allclose(gradient, layer(torch.eye(64)).sum(dim=1).expand(2, 64), atol=1e-4)


def test_qlora_quantises_stacked_experts_and_stays_close_to_them(tmp_path: Path, mixtral: Path, data: Path) -> None:
    """The experts shrink to a quarter of 16 bit, and the answers stay near those of the unquantised model."""
    plain = _built(mixtral, a_run(tmp_path, model=mixtral, data=data, method="lora"))
    built = _built(mixtral, a_run(tmp_path, model=mixtral, data=data, method="qlora"))
    experts = built.model.layers[0].mlp.experts
    ids = torch.arange(20)[None]
    with torch.no_grad():
        error = (built(ids).logits - plain(ids).logits).norm() / plain(ids).logits.norm()

    assert sorted(experts.parametrizations) == ["down_proj", "gate_up_proj"]
    stored = experts.parametrizations.gate_up_proj.original
    assert (stored.dtype, stored.numel()) == (torch.uint8, 4 * 256 * 64 // 2)
    assert experts.gate_up_proj.shape == (4, 256, 64)
    assert targets.is_mixture(built)  # packed or not, gate_proj would mean every expert to PEFT
    assert error < 0.2


def test_experts_are_packed_as_they_arrive(tmp_path: Path, data: Path) -> None:
    """All layers' experts are never there unpacked: only one layer's at a time. The values are those of packing them later."""
    folder = tiny_model(tmp_path / "deep", "mixtral", num_hidden_layers=8)
    plain = _built(folder, a_run(tmp_path, model=folder, data=data, method="lora")).model.layers[5].mlp.experts
    with Ledger() as ledger:
        built = _built(folder, a_run(tmp_path, model=folder, data=data, method="qlora"))
    experts = built.model.layers[5].mlp.experts
    unpacked = 4 * 8 * sum(weights.numel() for weights in (plain.gate_up_proj, plain.down_proj))

    assert ledger.peak.total < unpacked / 2
    for name in ("gate_up_proj", "down_proj"):
        later, state = quantize_4bit(getattr(plain, name).data, compress_statistics=True, quant_type="nf4")
        assert torch.equal(experts.parametrizations[name].original, later)
        assert torch.equal(getattr(experts, name), dequantize_4bit(later, state))


@pytest.mark.parametrize(
    ("method", "precision", "zero_stage", "expected"),
    [
        ("full", "mixed", 0, torch.float32),
        ("full", "mixed", 2, torch.bfloat16),
        ("full", "mixed", 3, torch.bfloat16),
        ("full", "bf16", 0, torch.bfloat16),
        ("lora", "mixed", 3, torch.bfloat16),
        ("lora", "bf16", 0, torch.bfloat16),
    ],
)
def test_deepspeed_loads_weights_as_it_will_hold_them(
    tmp_path: Path, data: Path, method: str, precision: str, zero_stage: int, expected: torch.dtype
) -> None:
    """Its masters are made from a bfloat16 model, so float32 weights would be there only to fill the GPU."""
    run = a_run(tmp_path, model=tmp_path, data=data, method=method, precision=precision, zero_stage=zero_stage)

    assert models.load_dtype(run, computation(method, precision, device="cuda")) == expected


def test_a_model_without_sdpa_runs_eager_and_says_so(
    tmp_path: Path, llama: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gemma 2 caps its attention scores: with sdpa transformers refuses to load it. Others keep the plan's kernel."""
    gemma = tiny_model(tmp_path / "gemma2", "gemma2")
    run = a_run(tmp_path, model=gemma, data=data)

    assert run.layout.attention == "sdpa"
    assert _built(llama, run).config._attn_implementation == "sdpa"
    assert _built(gemma, run).config._attn_implementation == "eager"
    assert (
        "Gemma2 does not support sdpa: it uses eager attention, whose memory grows with the square of the sequence length"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        (A_LORA, ["k_proj", "o_proj", "q_proj", "v_proj"]),
        (replace(A_LORA, experts=True), ["k_proj", "o_proj", "q_proj", "v_proj"]),
    ],
)
def test_the_router_never_gets_an_adapter(
    tmp_path: Path, mixtral: Path, data: Path, lora: Lora, expected: list[str]
) -> None:
    """On a mixture of experts all-linear means attention; experts only when asked for, as stacked parameters."""
    built = _built(mixtral, a_run(tmp_path, model=mixtral, data=data))

    assert targets.target_modules(built, lora) == expected
    stacked = ["experts.down_proj", "experts.gate_up_proj"] if lora.experts else []
    assert targets.expert_parameters(built, lora) == stacked


def test_experts_that_zero_3_has_divided_take_no_adapter(
    tmp_path: Path, mixtral: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A divided parameter has no elements, only a remembered shape: it is still known as stacked experts, and refused."""
    built = _built(mixtral, a_run(tmp_path, model=mixtral, data=data))
    for parameter in built.parameters():
        monkeypatch.setattr(parameter, "ds_shape", parameter.shape, raising=False)
        parameter.data = torch.empty(0)

    assert targets.is_mixture(built)
    with pytest.raises(UserError, match=r"spec.lora.experts: adapters on experts cannot be trained at ZeRO stage 3"):
        targets.expert_parameters(built, replace(A_LORA, experts=True))


def test_an_unknown_target_is_refused_with_those_that_exist(tmp_path: Path, llama: Path, data: Path) -> None:
    """A typo in targetModules never becomes an adapter on nothing."""
    built = _built(llama, a_run(tmp_path, model=llama, data=data))

    with pytest.raises(UserError) as refusal:
        targets.target_modules(built, replace(A_LORA, targets="custom", target_modules=("wq",)))

    assert refusal.value.message == (
        "spec.lora.targetModules: wq is not a linear layer of LlamaForCausalLM that can take an adapter; "
        "choose from down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )


def test_the_vision_tower_is_frozen_and_left_out(tmp_path: Path, llama: Path, data: Path) -> None:
    """Gemma 3 loads with its vision tower even for text: it is neither trained nor given an adapter."""
    shape = dict(SHAPE, head_dim=16, sliding_window=32)
    vision = SiglipVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                image_size=28, patch_size=14)  # fmt: skip
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**shape).to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=4
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "gemma")
    run = a_run(tmp_path, model=tmp_path / "gemma", data=data, method="full")
    built = _built(tmp_path / "gemma", run)

    trained_names = [name for name, parameter in built.named_parameters() if parameter.requires_grad]
    assert len(targets.vision_parameters(built)) > 0
    assert not any("vision" in name or "projector" in name for name in trained_names)
    assert not any("vision" in name for name in targets.target_modules(built, A_LORA))


def test_adalora_ranks_shrink_on_schedule_and_survive_a_resume(tmp_path: Path, llama: Path, data: Path) -> None:
    """The budget falls from 1.5 x rank to the rank asked for, and a resumed run prunes exactly as the whole one."""
    run = a_run(tmp_path / "whole", model=llama, data=data, max_steps=20, prompts=(), variant="adalora")
    session, outcome = carried_out(run, tmp_path / "whole")
    pattern = session.loop.trainer.model.peft_config["default"].rank_pattern
    kept = sum(sum(mask) if isinstance(mask, list) else mask for mask in pattern.values())
    cut = changed(a_run(tmp_path / "cut", model=llama, data=data, max_steps=20, prompts=(), variant="adalora"))
    stopped_at(cut, tmp_path / "cut", step=8)
    _session, resumed = carried_out(changed(cut, attempt=1), tmp_path / "cut" / "again")

    assert outcome.evaluation is not None
    assert session.loop.trainer.model.peft_config["default"].init_r == 6
    assert kept == 14 * 4
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert resumed.evaluation == outcome.evaluation


@pytest.mark.parametrize(("variant", "alpha", "scale"), [("standard", 8, 2.0), ("rslora", 4, 2.0), ("dora", 8, 2.0)])
def test_the_variant_decides_how_the_adapter_is_scaled(
    tmp_path: Path, llama: Path, data: Path, variant: str, alpha: int, scale: float
) -> None:
    """Alpha over rank 4; rslora: alpha over its root. Only dora has magnitudes beside the matrices."""
    run = a_run(tmp_path, model=llama, data=data, variant=variant, alpha=alpha)
    base = _built(llama, run)
    layer = (
        get_peft_model(base, models.adapter_config(base, run.lora, steps=8))
        .base_model.model.model.layers[0]
        .mlp.up_proj
    )

    assert layer.scaling == {"default": scale}
    assert len(layer.lora_magnitude_vector) == (variant == "dora")


def test_noise_on_embeddings_is_for_training_only(tmp_path: Path, llama: Path, data: Path) -> None:
    """NEFTune changes the very first loss, and no measurement."""
    quiet, noisy = (
        a_run(tmp_path / str(alpha), model=llama, data=data, max_steps=1, prompts=(), neftune_alpha=alpha)
        for alpha in (0.0, 50.0)
    )
    silent, loud = trained(quiet, tmp_path / "0.0").evaluation, trained(noisy, tmp_path / "50.0").evaluation

    assert silent is not None
    assert loud is not None
    assert losses(tmp_path / "50.0")[0] != pytest.approx(losses(tmp_path / "0.0")[0], abs=1e-3)
    assert loud.base_loss == silent.base_loss


def test_an_initial_adapter_is_continued(tmp_path: Path, llama: Path, data: Path) -> None:
    """The second run starts where the first one ended; an adapter of another base revision is refused."""
    first = a_run(tmp_path / "first", model=llama, data=data, max_steps=12, prompts=())
    before = trained(first, tmp_path / "first")
    adapter = replace(first.output, uri=f"{first.output.uri}/adapter")
    second = a_run(tmp_path / "second", model=llama, data=data, max_steps=2, prompts=(), initial_adapter=adapter)
    trained(second, tmp_path / "second")
    assert before.evaluation is not None
    # Step 1 has not updated anything yet: its loss is the first run's model on those rows.
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0] - 0.05

    other = tmp_path / "first" / "out" / "adapter" / "adapter_config.json"
    other.write_text(other.read_text().replace('"revision": null', '"revision": "abc"'))
    elsewhere = replace(second.output, uri=f"file://{tmp_path}/third/out")
    pinned = changed(second, model=replace(second.model, revision="def"), output=elsewhere)
    with pytest.raises(UserError) as refusal:
        trained(pinned, tmp_path / "third")
    assert refusal.value.message == (
        "spec.lora.initialAdapter was trained on revision abc of its base model, but this run uses def; "
        "use that revision of the base model, or train a new adapter"
    )


def test_packed_documents_do_not_see_each_other(tmp_path: Path, llama: Path) -> None:
    """Two documents in one row, positions restarting: the same logits as each document alone."""
    built = AutoModelForCausalLM.from_pretrained(llama, attn_implementation="sdpa").eval()
    first, second = torch.arange(5, 17)[None], torch.arange(40, 49)[None]
    positions = torch.cat([torch.arange(12), torch.arange(9)])[None]
    with torch.no_grad():
        packed = built(torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits
        alone = torch.cat([built(first).logits, built(second).logits], dim=1)

    assert torch.allclose(packed, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "precision", "device", "weights", "compute", "autocast"),
    [
        ("lora", "bf16", "cuda", "bfloat16", "bfloat16", True),
        ("lora", "mixed", "cuda", "float32", "bfloat16", True),
        ("full", "mixed", "cuda", "float32", "bfloat16", True),
        ("full", "bf16", "cuda", "bfloat16", "bfloat16", False),
        ("lora", "bf16", "cpu", "float32", "float32", False),
        ("full", "mixed", "cpu", "float32", "float32", False),
        ("full", "bf16", "cpu", "bfloat16", "bfloat16", False),
    ],
)
def test_what_a_run_computes_in(
    method: str, precision: str, device: str, weights: str, compute: str, autocast: bool
) -> None:
    """Storage and arithmetic depend on method, precision and device."""
    numbers = computation(method, precision, device=device)

    assert (numbers.weights, numbers.compute, numbers.autocast) == (weights, compute, autocast)


def test_the_precision_is_read_off_the_tensors() -> None:
    """What the log and the card say is what the tensors are, not what was asked for."""
    numbers = computation("lora", "bf16", device="cuda")
    parts = {name: torch.nn.Linear(64, 64, bias=False) for name in ("base", "lora_A")}
    model = torch.nn.ModuleDict(parts).to(torch.bfloat16)
    model["base"].weight.requires_grad_(False)

    plain = stored_as(model, numbers, masters=False)
    sharded = stored_as(model, numbers, masters=True)
    float32_adapters(model)
    ours = stored_as(model, numbers, masters=False)

    assert plain == "bfloat16 base, bfloat16 adapter, bfloat16 computation on cuda"
    assert sharded == ("bfloat16 base, bfloat16 adapter with float32 masters, bfloat16 computation on cuda")
    assert ours == "bfloat16 base, float32 adapter, bfloat16 computation on cuda"
