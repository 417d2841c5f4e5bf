"""Variable-length attention against sdpa with its masks: every family, losses and gradients of runs, generation, the kernel's call."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.models.attention import attention_of, no_varlen
from finetune_trainer.model import load, varlen
from finetune_trainer.model.precision import computation
from finetune_trainer.process.worker import quiet
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS, carried_out, losses
from tests.trainer.test_architecture_exact import CASES, SMALL
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

LENGTHS = [37, 21, 60]
WINDOW = 16

REFUSED = {
    "llama-4 all mixture": "its layers see chunks of tokens, which the kernel does not have",
    "llama-4 interleaved": "its layers see chunks of tokens, which the kernel does not have",
    "qwen3-next": "its linear attention cannot keep rows apart",
    "qwen3.5": "its linear attention cannot keep rows apart",
    "qwen3.5-moe": "its linear attention cannot keep rows apart",
    "gemma-2": "its attention caps scores or has sinks",
    "gpt-oss": "its attention caps scores or has sinks",
    "deepseek-v2": "its keys and values differ in width",
    "deepseek-v2-lite": "its keys and values differ in width",
    "deepseek-v3": "its keys and values differ in width",
    "seed-oss": "its config.json asks for dropout in attention",
    "falcon-7b": "transformers' Falcon calls its own attention",
    "falcon-40b": "transformers' Falcon calls its own attention",
    "falcon-1b": "transformers' Falcon calls its own attention",
}
"""Of the cases whose counts are compared with transformers' classes."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices: a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    varlen.register()
    yield
    torch.set_num_threads(threads)


def a_config(kind: str, overrides: dict[str, Any]) -> Any:
    """Return a small config of a family, with a window that its rows exceed and heads of a width that the kernel takes."""
    settings = {**SMALL, **overrides} | (
        {} if "head_dim" in overrides else {"head_dim": 16} if kind != "falcon" else {}
    )
    if kind == "falcon":
        settings.pop("num_key_value_heads")
        settings.pop("intermediate_size")
    config = CONFIG_MAPPING[kind](**settings)
    if getattr(config, "sliding_window", None):
        config.sliding_window = WINDOW
    return config


def end_to_end(lengths: list[int]) -> dict[str, Any]:
    """Return documents as TRL's collator lays them out."""
    tokens = torch.randint(5, 1000, (1, sum(lengths)), generator=torch.Generator().manual_seed(1))
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    return {
        "input_ids": tokens, "labels": tokens, "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(lengths), "max_length_k": max(lengths),
        "use_cache": False,
    }  # fmt: skip


def two_alike(config: Any) -> tuple[Any, Any]:
    """Return the same random model with sdpa and with variable-length attention."""
    made = []
    for attention in ("sdpa", varlen.VARLEN):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation=attention, dtype=torch.float32)
        made.append(model.eval())  # Phi's routers add noise as they train
    return made[0], made[1]


def gradients(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and all gradients."""
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("name", "kind", "overrides"), CASES, ids=[case[0] for case in CASES])
def test_the_rule_holds_for_every_family(
    name: str, kind: str, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family that the rule lets in computes every layer so, with sdpa's loss and gradients; the others are refused by name."""
    config = a_config(kind, overrides)
    shape = architecture(config.to_diff_dict() | {"model_type": kind})
    why = no_varlen(shape)

    assert why == REFUSED.get(name, "")
    if why:
        return
    calls: list[int] = []
    compute = varlen.one_by_one
    monkeypatch.setattr(varlen, "one_by_one", lambda *a, **k: calls.append(1) or compute(*a, **k))
    masked, mine = two_alike(config)
    batch = end_to_end(LENGTHS)
    loss, slopes = gradients(masked, batch)
    my_loss, my_slopes = gradients(mine, batch)

    assert len(calls) == config.num_hidden_layers
    assert torch.allclose(my_loss, loss, atol=1e-5)
    assert (my_slopes - slopes).norm() < 1e-4 * slopes.norm()


def test_what_the_kernel_cannot_train_is_padded() -> None:
    """Widths of heads, dropout of scores, and noise that depends on the length are looked at, not the family alone."""
    llama = architecture({**SMALL, "model_type": "llama", "head_dim": 128})
    wide = architecture({**SMALL, "model_type": "llama", "head_dim": 208})
    odd = architecture({**SMALL, "model_type": "llama", "head_dim": 20})
    dropping = architecture({**SMALL, "model_type": "llama", "head_dim": 128, "attention_dropout": 0.1})
    gemma = architecture({**SMALL, "model_type": "gemma4_text", "head_dim": 256})

    assert [no_varlen(shape) for shape in (llama, wide, odd, dropping, gemma)] == [
        "",
        "its attention heads are 208 wide",
        "its attention heads are 20 wide",
        "its config.json asks for dropout in attention",
        "its attention heads are 512 wide",
    ]
    assert attention_of(llama, packed=False, noise=False) == "varlen"
    assert attention_of(llama, packed=False, noise=True) == "sdpa"
    assert attention_of(llama, packed=True, noise=True) == "varlen"
    assert attention_of(gemma, packed=True, noise=False) == "sdpa"


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma3"])
def test_a_document_does_not_see_another(family: str) -> None:
    """Other tokens in the first document leave the logits of the second as they are, bit for bit."""
    overrides: dict[str, Any] = {"sliding_window": WINDOW} if family == "mistral" else {}
    config = a_config("gemma3_text" if family == "gemma3" else family, overrides)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=varlen.VARLEN, dtype=torch.float32).eval()
    batch = end_to_end([30, 40])
    changed = dict(batch, input_ids=batch["input_ids"].clone())
    changed["input_ids"][0, :30] = 7
    with torch.no_grad():
        before, after = model(**batch).logits[0], model(**changed).logits[0]

    assert not torch.equal(before[:30], after[:30])
    assert torch.equal(before[30:], after[30:])


def test_borders_are_found_where_nobody_says_them() -> None:
    """Positions that begin anew begin a document; without positions all is one."""
    query = torch.zeros(1, 2, 6, 8)
    packed, longest = varlen.borders(query, torch.tensor([[0, 1, 0, 1, 2, 0]]))
    whole = varlen.borders(query, None)

    assert (packed.tolist(), longest) == ([0, 2, 5, 6], 3)
    assert (whole[0].tolist(), whole[1]) == ([0, 6], 6)


def test_padded_rows_and_answers_are_those_of_sdpa() -> None:
    """A batch with padding and generated tokens have masks as ever, in layers with a window too."""
    config = a_config("gemma3_text", {})
    masked, mine = two_alike(config)
    tokens = end_to_end([24, 24])["input_ids"].view(2, 24)
    padding = torch.ones_like(tokens)
    padding[0, :9] = 0
    with torch.no_grad():
        rows = [model(input_ids=tokens, attention_mask=padding).logits[padding.bool()] for model in (masked, mine)]
        said = [
            model.generate(
                input_ids=tokens[1:], attention_mask=padding[1:], max_new_tokens=12, do_sample=False, eos_token_id=None
            ).tolist()
            for model in (masked, mine)
        ]

    assert torch.allclose(rows[0], rows[1], atol=1e-5)
    assert said[0] == said[1]
    assert len(said[0][0]) == 36


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"packing": True}),
        ("llama", {"packing": False}),
        ("llama", {"packing": False, "activation_checkpointing": True, "gradient_accumulation_steps": 2, "micro_batch_size": 2}),
        ("qwen2", {"packing": True, "method": "full"}),
        ("mixtral", {"packing": False}),
        ("gemma3", {"packing": False}),
        ("gemma3", {"packing": True}),
    ],
)  # fmt: skip
def test_a_run_learns_what_it_learns_with_masks(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    """Every step's loss, the held-out loss and the trained weights are those of the run with padding and masks."""
    base = tiny_model(tmp_path / "model", family)
    data = conversations(tmp_path / "data.jsonl", rows=60)
    found = []
    for attention in ("sdpa", varlen.VARLEN):
        folder = tmp_path / attention
        run = a_run(folder, model=base, data=data, attention=attention, **changes)
        session, outcome = carried_out(run, folder)
        model = session.loop.trainer.model
        weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
        found.append((torch.tensor(losses(folder)), outcome.evaluation.tuned_loss, weights, session.loop.precision))
    (masked, masked_loss, masked_weights, _), (mine, my_loss, my_weights, said) = found

    assert torch.allclose(mine, masked, atol=2e-4)
    assert my_loss == pytest.approx(masked_loss, abs=2e-3)
    assert (my_weights - masked_weights).norm() < 2e-2 * masked_weights.norm()
    assert said.endswith(", varlen attention")


def test_one_row_in_a_micro_batch_is_no_matter_for_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL advises to have more rows in a micro batch; the planner has compared, and the user would not know what to do."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    base, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=20)
    run = a_run(
        tmp_path, model=base, data=data, attention=varlen.VARLEN, micro_batch_size=1, global_batch_size=1, max_steps=1
    )
    quiet("cpu")
    carried_out(run, tmp_path)

    assert [record.getMessage() for record in caplog.records if record.name.startswith("trl")] == []


def test_an_older_gpu_gets_masks_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch builds the kernel for compute capability 8.0 and later only."""
    run = a_run(tmp_path, model=tmp_path, data=tmp_path, attention=varlen.VARLEN)
    config, numbers = AutoConfig.for_model("llama", **SMALL), computation("lora", "bf16", device="cuda")
    chosen = []
    for capability in ((8, 0), (7, 5)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        chosen.append((load.attention(config, run, numbers), varlen.serves(run.layout, "cuda")))

    assert chosen == [("varlen", True), ("sdpa", False)]
    assert (
        "the GPU has compute capability 7.5, but variable-length attention needs 8.0: rows are padded or get a dense mask, "
        "which takes more memory than was planned"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(("window", "kernels"), [(None, (-1, 0)), (16, (15, 0)), (60, (-1, 0))])
def test_the_kernel_is_called_with_its_own_window(
    window: int | None, kernels: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' window counts the token itself, FlashAttention's only those before it; one as long as the rows is none."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(varlen, "varlen_attn", lambda *parts, **named: (seen.update(named), parts[0])[1])
    part = torch.zeros(118, 2, 16)
    ends = torch.tensor([0, 37, 58, 118], dtype=torch.int32)
    varlen.on_gpu(part, part, part, varlen.Documents(ends=ends, longest=60, scale=0.25, window=window))

    assert seen == {"scale": 0.25, "window_size": kernels, "enable_gqa": True}


def test_the_kernel_takes_grouped_keys_forward_and_backward() -> None:
    """torch's own operator and its gradient on fake tensors: arguments, shapes and types are legal. Nothing is computed."""
    with FakeTensorMode():
        query, key, value = (
            torch.empty(118, heads, 64, dtype=torch.bfloat16, requires_grad=True) for heads in (8, 2, 2)
        )
        ends = torch.empty(4, dtype=torch.int32)
        out = varlen.on_gpu(query, key, value, varlen.Documents(ends=ends, longest=60, scale=0.1, window=16))
        found = torch.autograd.grad(out.sum(), (query, key, value))

    assert (tuple(out.shape), out.dtype) == ((118, 8, 64), torch.bfloat16)
    assert [tuple(part.shape) for part in found] == [(118, 8, 64), (118, 2, 64), (118, 2, 64)]


def test_dropout_of_scores_is_refused() -> None:
    """The kernel has none: it would be left out without a word."""
    part = torch.zeros(1, 2, 6, 8)
    with pytest.raises(ValueError, match="variable-length attention has no dropout of its scores"):
        varlen.varlen_attention(torch.nn.Module(), part, part, part, None, dropout=0.1)
