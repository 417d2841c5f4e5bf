"""Further forms of a published result: what is merged answers as base and adapter do, and nothing else is published."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import ExportConfig, Location, RunConfig
from finetune_trainer.errors import UserError
from finetune_trainer.exporting import agreement, merge
from finetune_trainer.exporting.export import export
from finetune_trainer.publishing import artifacts
from finetune_trainer.publishing.published import Published
from finetune_trainer.runtime.speed import Speed
from finetune_trainer.storage import Role, open_location
from gguf import GGUFReader
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.adalora.layer import SVDLinear
from peft.tuners.lora import LoraModel, layer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from tests.trainer.running import IN_PROCESS
from tests.trainer.tiny import a_run, tiny_model

pytestmark = [
    *IN_PROCESS,
    pytest.mark.usefixtures("local_files"),
    pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to .True.:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model (has|with) .tie_word_embeddings=True:UserWarning"),
]

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def sixteen_bit_base(folder: Path, family: str = "llama") -> Path:
    """A tiny model in bfloat16, as models of the hub are."""
    tiny_model(folder, family)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def published(folder: Path, base: Path, config: Any, *, size: float = 0.3, **parts: Any) -> RunConfig:
    """Publish an adapter with random weights of a size, as the trainer does; its effect is as large as that of a real one."""
    run = a_run(folder, model=base, data=folder / "none.jsonl", prompts=("red cat", "one two three"))
    run = replace(run, **parts)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(torch.randn_like(parameter) * size)
            elif "magnitude" in name or "modules_to_save" in name:
                parameter.mul_(1.5)
    made = folder / "made"
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(base).save_pretrained(made)
    nothing = Speed(tokens_per_second=None, model_flop_utilisation=None, padding_share=None)
    facts = Published(
        evaluation=None, computation="bfloat16", steps=2, final_loss=1.0, training_seconds=1.0, speed=nothing
    )
    artifacts.write_card(made, run, facts)
    artifacts.publish(made, open_location(run.output, Role.OUTPUT), run, facts)
    return run


def asked(run: RunConfig, *exports: str, number: int = 0) -> ExportConfig:
    """Return what an export Pod of the run is told."""
    return ExportConfig(
        namespace=run.namespace, name=run.name, uid=run.uid, number=number, run_digest=run.run_digest, model=run.model,
        output=run.output, checkpoint=run.checkpoint.location, exports=exports,
    )  # fmt: skip


LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM", "target_modules": ATTENTION}

VARIANTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "lora": ("llama", lambda: LoraConfig(**LORA)),
    "rslora": ("llama", lambda: LoraConfig(**LORA, use_rslora=True)),
    "ranks and alphas": (
        "llama", lambda: LoraConfig(**LORA, rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 64}),
    ),
    "dora": ("llama", lambda: LoraConfig(**LORA, use_dora=True)),
    "adalora": (
        "llama",
        lambda: AdaLoraConfig(
            task_type="CAUSAL_LM", target_modules=ATTENTION, init_r=6, target_r=4, tinit=1, tfinal=1, total_step=10,
            lora_alpha=16,
        ),
    ),
    "whole head": ("qwen2", lambda: LoraConfig(**LORA, modules_to_save=["lm_head"])),
    "tied embeddings": (
        "llama", lambda: LoraConfig(**LORA, modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    ),
    "the head of tied embeddings": (
        "llama", lambda: LoraConfig(**{**LORA, "target_modules": ["q_proj", "lm_head"]}),
    ),
    "tied embeddings alone": ("llama", lambda: LoraConfig(**{**LORA, "target_modules": ["q_proj", "embed_tokens"]})),
    "experts": (
        "mixtral",
        lambda: LoraConfig(**LORA, target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    ),
    "a sliding window": ("gemma2", lambda: LoraConfig(**LORA)),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_merged_model_answers_as_base_and_adapter(variant: str, tmp_path: Path) -> None:
    """Whatever the adapter is made of: the distributions differ by the rounding of 16 bit, and the base's are far away."""
    family, config = VARIANTS[variant]
    base = sixteen_bit_base(tmp_path / "base", family)
    run = published(tmp_path, base, config())

    outcome = export(asked(run, "merged"), tmp_path / "workspace")

    adapter, whole = outcome.artifacts
    assert (adapter.kind, whole.kind, whole.uri) == ("adapter", "merged", f"file://{tmp_path}/out/merged")
    assert whole.checked.startswith("base + adapter: ")
    assert re.search(r", [0-9]+ matrices are base [+] update within 16-bit rounding$", whole.checked), whole.checked
    folder = tmp_path / "out/merged"
    tokens = agreement.rows(AutoTokenizer.from_pretrained(folder), ("red cat",))
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = agreement.log_probabilities(plain, tokens)
    tuned = agreement.log_probabilities(PeftModel.from_pretrained(plain, tmp_path / "out/adapter").eval(), tokens)
    found = agreement.log_probabilities(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokens)
    effect, error = agreement.agreement(tuned, before).divergence, agreement.agreement(tuned, found).divergence
    assert effect > 1e-2
    assert error < effect / 20
    assert {tensor.dtype for file in folder.glob("*.safetensors") for tensor in load_file(file).values()} == {
        torch.bfloat16
    }


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("tied embeddings", "whole head")])
def test_a_scale_that_is_a_little_wrong_is_seen_in_the_weights(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that hardly changes an answer, merged at nine tenths of its scale: the matrices tell, whatever the answers say."""
    family, config = VARIANTS[variant]
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base", family), config(), size=0.05)
    right = {kind: kind.get_delta_weight for kind in (layer.Linear, layer.Embedding, layer.ParamWrapper, SVDLinear)}
    for kind, own in right.items():
        monkeypatch.setattr(kind, "get_delta_weight", lambda self, *given, own=own: 0.9 * own(self, *given))

    with pytest.raises(
        UserError, match=r"of the merged model is not its base [+] scale x B x A: a value is .* times as far"
    ):
        export(asked(run, "merged"), tmp_path / "workspace")
    assert not (tmp_path / "out/merged").exists()


@pytest.mark.filterwarnings(
    "ignore::peft.utils.warning.PeftWarning"
)  # of the bias, when such an adapter is made and read
def test_an_adapter_that_cannot_be_merged_is_the_users_to_know(tmp_path: Path) -> None:
    """A bias on a layer that has none: no try after the first would do better."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA, lora_bias=True))

    with pytest.raises(
        UserError,
        match=r"cannot be merged: Impossible to merge LoRA with .lora_bias=True.* Serve the adapter with PEFT",
    ):
        export(asked(run, "merged"), tmp_path / "workspace")


def test_a_whole_module_that_is_not_the_adapters_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT puts it in place of the base's; here it does not."""
    family, config = VARIANTS["whole head"]
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base", family), config())
    own = LoraModel.merge_and_unload

    def loses_head(self: Any, **given: Any) -> Any:
        before = self.model.lm_head.original_module.weight.detach().clone()
        model = own(self, **given)
        model.lm_head.weight.data = before
        return model

    monkeypatch.setattr(LoraModel, "merge_and_unload", loses_head)
    with pytest.raises(UserError, match=r"lm_head.weight of the merged model is not its base"):
        export(asked(run, "merged"), tmp_path / "workspace")


def test_the_manifest_names_what_was_exported_and_a_second_pod_makes_only_what_is_missing(tmp_path: Path) -> None:
    """Digests can be checked with sha256sum; the adapter's entry stays as it was; the same Pod again changes nothing."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))
    (tmp_path / "base/README.md").write_text("---\nlicense: mit\n---\n")
    before = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    first = export(asked(run, "merged"), tmp_path / "one")
    manifest = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}

    again = export(asked(run, "merged", number=1), tmp_path / "two")

    assert "| licence of the base model | mit |" in (tmp_path / "out/merged/README.md").read_text()
    assert again.artifacts == first.artifacts
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == written
    assert manifest["artifacts"][0] == before["artifacts"][0]
    files = artifacts.file_digests(tmp_path / "out/merged")
    assert manifest["exports"]["merged"]["files"] == files
    assert first.artifacts[1].digest == artifacts.folder_digest(files)
    assert (first.artifacts[1].servable, first.artifacts[1].lora_rank) == ("vllm, sglang, tgi", 0)


def test_a_merge_that_loses_a_part_of_the_adapter_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The low-rank part left out: refused with the figures."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))
    right = merge.merged

    def wrong(tuned: Any, *rest: Any) -> Any:
        for module in tuned.modules():
            if isinstance(getattr(module, "scaling", None), dict):  # of an adapter: attention has a number of that name
                module.scaling["default"] = 0.0
        return right(tuned, *rest)

    monkeypatch.setattr(merge, "merged", wrong)
    with pytest.raises(UserError) as refusal:
        export(asked(run, "merged"), tmp_path / "workspace")

    assert refusal.value.reason == "ExportFailed"
    assert refusal.value.message.startswith(
        "base_model.model.model.layers.0.self_attn.q_proj of the merged model is not its base + scale x B x A: a value is "
    )
    assert not (tmp_path / "out/merged").exists()


def test_a_float32_base_is_merged_in_bfloat16(tmp_path: Path) -> None:
    """16 bit is what is served: the dtype in config.json says so."""
    run = published(tmp_path, tiny_model(tmp_path / "base"), LoraConfig(**LORA))

    export(asked(run, "merged"), tmp_path / "workspace")

    assert json.loads((tmp_path / "out/merged/config.json").read_text())["dtype"] == "bfloat16"


def test_an_adapter_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    """The digest is read back before anything is made of it; a file that somebody left beside it does not count."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))
    before = (tmp_path / "out/finetune-manifest.json").read_text()
    file = tmp_path / "out/adapter/adapter_model.safetensors"
    (tmp_path / "out/adapter/.DS_Store").write_text("")
    assert export(asked(run, "merged"), tmp_path / "first").artifacts[1].kind == "merged"
    (tmp_path / "out/finetune-manifest.json").write_text(before)
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)

    with pytest.raises(UserError) as refusal:
        export(asked(run, "merged"), tmp_path / "workspace")

    assert "are not those that were published" in refusal.value.message


def test_the_result_of_another_run_is_not_exported(tmp_path: Path) -> None:
    """Somebody has removed the manifest, or another run has taken the place."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))

    with pytest.raises(UserError) as refusal:
        export(replace(asked(run, "merged"), run_digest="sha256:other"), tmp_path / "workspace")

    assert (refusal.value.reason, "another output.destination" in refusal.value.message) == ("OutputOccupied", True)


def test_a_base_that_is_gone_is_said(tmp_path: Path) -> None:
    """The user can put it back; the adapter stays published."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))
    gone = replace(asked(run, "merged"), model=replace(run.model, location=Location(uri=f"file://{tmp_path}/nowhere")))

    with pytest.raises(UserError) as refusal:
        export(gone, tmp_path / "workspace")

    assert refusal.value.reason == "ModelNotFound"


WORDS = "red green blue one two three four five cat dog bird fish north south east west"


def for_llama_cpp(folder: Path, *, text: str = WORDS, pieces: int = 100) -> Path:
    """A tiny Llama in bfloat16 whose tokenizer llama.cpp knows: that of Llama 2, with a token for every byte."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trained.train_from_iterator([text] * 4, trainers.BpeTrainer(vocab_size=pieces, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    merges = [tuple(pair) for pair in learned["merges"]]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    whole = Tokenizer(model)
    whole.normalizer = trained.normalizer
    whole.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_ggufs_of_the_merged_model_answer_as_it_does(tmp_path: Path) -> None:
    """Converted by llama.cpp's converter, quantised by its kernel, loaded and asked by its engine; an rslora adapter inside."""
    run = published(tmp_path, for_llama_cpp(tmp_path / "base"), LoraConfig(**LORA, use_rslora=True), size=0.1)

    outcome = export(asked(run, "gguf-f16", "gguf-q8_0", "gguf-q4_k_m"), tmp_path / "workspace")

    adapter, *forms = outcome.artifacts
    assert [form.kind for form in forms] == ["gguf-f16", "gguf-q8_0", "gguf-q4_k_m"]
    assert all(
        form.servable == "llama.cpp" and re.match(r"merged model: \d+ next tokens in llama.cpp", form.checked)
        for form in forms
    )
    sizes = [form.size_bytes for form in forms]
    assert sizes == sorted(sizes, reverse=True)
    assert adapter.kind == "adapter"
    (file,) = (tmp_path / "out/gguf-q4_k_m").glob("*.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(file).tensors}
    assert {name: kinds[name] for name in ("output.weight", "token_embd.weight", "output_norm.weight")} == {
        "output.weight": "Q6_K", "token_embd.weight": "Q4_K", "output_norm.weight": "F32",
    }  # fmt: skip
    assert [kinds[f"blk.{layer}.attn_v.weight"] for layer in range(8)] == [
        "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K",
    ]  # fmt: skip


def test_embeddings_with_more_rows_than_tokens_become_a_gguf_that_loads(tmp_path: Path) -> None:
    """Sizes are rounded up for speed; llama.cpp wants a token for every row."""
    base = for_llama_cpp(tmp_path / "base")
    config = LlamaConfig.from_pretrained(base)
    config.vocab_size += 52
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(base)
    run = published(tmp_path, base, LoraConfig(**LORA), size=0.1)

    outcome = export(asked(run, "gguf-q8_0"), tmp_path / "workspace")

    assert outcome.artifacts[1].checked.startswith("merged model: ")


def test_a_model_that_llama_cpp_does_not_know_is_refused_in_its_words(tmp_path: Path) -> None:
    """A byte-level tokenizer that nobody has seen before: no file is published."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))

    with pytest.raises(UserError) as refusal:
        export(asked(run, "gguf-q8_0"), tmp_path / "workspace")

    assert refusal.value.reason == "ExportFailed"
    assert refusal.value.message == (
        "llama.cpp's converter refused the model: it does not know the model's tokenizer (BPE pre-tokenizer was not recognized). A later "
        "release of llama.cpp may"
    )
    assert not (tmp_path / "out/gguf-q8_0").exists()
