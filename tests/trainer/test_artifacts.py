"""What is published, what it says about itself, and what a run says where nothing is."""

import errno
import hashlib
import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from finetune_contract import EvaluationResult, Outcome, Sample, outcome_text
from finetune_trainer.errors import StorageUnavailable, UserError
from finetune_trainer.process import verdict
from finetune_trainer.publishing import artifacts
from finetune_trainer.publishing.adapter_facts import facts_of
from finetune_trainer.publishing.published import Published
from finetune_trainer.publishing.tokenizer_files import save_tokenizer
from finetune_trainer.runtime.speed import Speed
from finetune_trainer.training.divergence import refuse_infinite
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import a_run, changed, conversations, tiny_model, tiny_tokenizer

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def test_the_adapter_is_what_was_measured(tmp_path: Path, llama: Path, data: Path) -> None:
    """Safetensors and text only; digests as in the manifest; loaded on its base it has the loss that was reported."""
    run = a_run(tmp_path, model=llama, data=data, prompts=())
    outcome = trained(run, tmp_path)
    folder, manifest = tmp_path / "out" / "adapter", json.loads((tmp_path / "out/finetune-manifest.json").read_text())

    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "curves.svg", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert manifest["files"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (listed,) = manifest["artifacts"]
    assert listed["digest"] == outcome.artifacts[0].digest == artifacts.folder_digest(manifest["files"])
    assert (manifest["runDigest"], manifest["steps"]) == ("sha256:run", 8)
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (f"file://{llama}", 4)
    assert sorted(config["target_modules"]) == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    again = trained(changed(run, attempt=1), tmp_path / "again")
    assert (again.outcome, again.reason, again.artifacts) == ("Succeeded", "AlreadyPublished", outcome.artifacts)
    assert again.evaluation == outcome.evaluation
    base = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        before = base(torch.arange(5, 25)[None]).logits
        after = PeftModel.from_pretrained(base, str(folder))(torch.arange(5, 25)[None]).logits
    assert not torch.equal(before, after)


def test_a_full_fine_tune_is_published_in_the_dtype_of_its_base(tmp_path: Path, data: Path) -> None:
    """A bfloat16 base gives a bfloat16 model of its size; the float32 masters stay in the checkpoint. The base's vocabulary comes along."""
    base = tiny_model(tmp_path / "base")
    (base / "tokenizer.model").write_bytes(b"its SentencePiece vocabulary")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    run = a_run(tmp_path, model=base, data=data, method="full", max_steps=4, prompts=())
    outcome = trained(run, tmp_path)
    published = tmp_path / "out" / "model"
    (checkpoint,) = (tmp_path / "out" / ".checkpoints").glob("attempt-*")

    assert (published / "tokenizer.model").read_bytes() == b"its SentencePiece vocabulary"
    assert _dtypes(published) == _dtypes(base) == {torch.bfloat16}
    assert _dtypes(checkpoint) == {torch.float32}
    size = (base / "model.safetensors").stat().st_size
    assert (published / "model.safetensors").stat().st_size == size
    assert outcome.artifacts[0].size_bytes == sum(path.stat().st_size for path in published.iterdir())
    assert json.loads((published / "config.json").read_text())["dtype"] == "bfloat16"
    masters = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(masters[k].bfloat16(), v) for k, v in load_file(published / "model.safetensors").items())


def _dtypes(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "OutOfMemory", 86),
        (RuntimeError("CUDA error: out of memory"), "OutOfMemory", 86),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "OutOfMemory", 86),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "HostOutOfMemory", 1),
        (MemoryError(), "HostOutOfMemory", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "StorageFull", 1),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "StorageFull", 1),
        (RuntimeError("[pair.cc] Connection closed by peer [127.0.0.1]:7"), "CommunicationTimeout", 1),
        (torch.distributed.DistBackendError("NCCL error"), "CommunicationTimeout", 1),
        (StorageUnavailable("bucket b does not answer"), "StorageUnavailable", 1),
        (UserError("LossDiverged", "the loss became nan"), "LossDiverged", 87),
        (KeyError("x"), "TrainerError", 1),
    ],
)
def test_every_end_has_a_reason_and_its_exit_code(error: BaseException, reason: str, code: int) -> None:
    """86 asks for a leaner plan, 87 for another job, 1 for another attempt."""
    outcome = verdict.failure(error)

    assert (outcome.outcome, outcome.reason, verdict.exit_code(outcome)) == ("Failed", reason, code)


def test_the_first_failure_of_a_replica_is_its_verdict(tmp_path: Path) -> None:
    """What the other processes report afterwards is that they lost it."""
    first = Outcome(outcome="Failed", reason="OutOfMemory", message="full")
    verdict.write(first, tmp_path, rank=1)
    verdict.write(Outcome(outcome="Failed", reason="CommunicationTimeout", message="lost"), tmp_path, rank=0)

    assert verdict.read(tmp_path) == first


@pytest.mark.parametrize("every", [0, 1])
def test_a_diverging_loss_ends_the_run_with_a_remedy(tmp_path: Path, llama: Path, data: Path, every: int) -> None:
    """A loss that is no number is never trained on, nor saved; also where it is an evaluation that sees it first."""
    run = a_run(tmp_path, model=llama, data=data, method="full", learning_rate=1e30, prompts=(), every_steps=every)

    with pytest.raises(UserError) as refusal:
        trained(run, tmp_path)

    assert refusal.value.reason == "LossDiverged"
    assert "lower spec.training.learningRate" in refusal.value.message
    assert not list((tmp_path / "out" / ".checkpoints").glob("attempt-*"))


@pytest.mark.parametrize(
    ("changes", "rank", "servable"),
    [
        ({}, 8, "vllm, sglang, tgi, llama.cpp"),
        ({"r": 40}, 40, "vllm (--max-lora-rank 64), sglang (--max-lora-rank 64), tgi, llama.cpp"),
        ({"rank_pattern": {"q_proj": 40}}, 40, "vllm (--max-lora-rank 64), llama.cpp; not sglang, tgi"),
        ({"use_rslora": True}, 8, "vllm, tgi; not sglang, llama.cpp"),
        ({"alpha_pattern": {"q_proj": 64}}, 8, "vllm; not sglang, tgi, llama.cpp"),
        ({"layers_to_transform": [0]}, 8, "vllm, sglang, llama.cpp; not tgi"),
        ({"target_modules": ["q_proj", "lm_head"]}, 8, "vllm, sglang, tgi; not llama.cpp"),
        ({"use_dora": True}, 8, "merged only: vllm does not load DoRA"),
        ({"peft_type": "ADALORA", "target_r": 4}, 4, "merged only: vllm does not load AdaLoRA"),
        ({"modules_to_save": ["lm_head"]}, 8, "merged only: vllm does not load whole modules (modulesToSave)"),
        ({"target_parameters": ["experts.down_proj"]}, 8, "merged only: vllm does not load expert weights"),
        ({"bias": "lora_only"}, 8, "merged only: vllm does not load biases"),
        ({"lora_bias": True}, 8, "merged only: vllm does not load biases"),
        ({"trainable_token_indices": [3]}, 8, "merged only: vllm does not load trained or added token embeddings"),
        ({"init_lora_weights": "gaussian"}, 8, "vllm, sglang, tgi, llama.cpp"),
        ({"init_lora_weights": "pissa_niter_4"}, 8,
         "merged only: vllm does not load an initialisation that changes the base weights (PiSSA, OLoRA, CorDA, LoftQ)"),
        ({"alora_invocation_tokens": [5, 6]}, 8, "llama.cpp; not vllm, sglang, tgi"),
        ({"layer_replication": [[0, 2], [1, 2]]}, 8, "merged only: vllm does not load replicated layers"),
        ({"kasa_config": {}, "use_qalora": True}, 8,
         "merged only: vllm does not load another variant of LoRA (QALoRA, BD-LoRA, KaSA, Arrow, MonteCLoRA)"),
        ({"r": 1024}, 1024, "sglang (--max-lora-rank 1024), tgi, llama.cpp; not vllm"),
    ],
)  # fmt: skip
def test_which_servers_load_an_adapter_stands_in_its_own_configuration(
    changes: dict[str, object], rank: int, servable: str
) -> None:
    """As the engines answer, whatever the job's spec says: one that ignores a part of the adapter does not serve it."""
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "bias": "none"}

    found = facts_of({**described, **changes})

    assert (found.rank, found.alpha, found.servable) == (rank, 16, servable)


def test_embeddings_beside_an_adapter_are_seen_in_its_tensors() -> None:
    """PEFT saves them when tokens were added, and no field of the configuration says so."""
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "bias": "none"}

    found = facts_of(described, ["base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"])

    assert found.servable == "merged only: vllm does not load trained or added token embeddings"
    assert found.target_modules == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("model_type", "servable"),
    [
        ("qwen3_5", "sglang, tgi, llama.cpp; not vllm"),
        ("qwen3_5_text", "vllm, sglang, tgi, llama.cpp"),
        ("gemma3", "vllm, sglang, tgi, llama.cpp"),
    ],
)
def test_an_adapter_of_the_text_part_of_a_multimodal_model_is_not_for_vllm(model_type: str, servable: str) -> None:
    """vLLM loads the whole model, finds none of the adapter's layers by their names, and answers as the base. Gemma is trained whole."""
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "bias": "none"}

    assert facts_of(described, model_type=model_type).servable == servable


def test_a_continued_adapter_is_reported_as_it_is(tmp_path: Path, llama: Path, data: Path) -> None:
    """A DoRA adapter of rank 2, continued by a job whose spec says nothing: artifact and card name what it is."""
    first = a_run(
        tmp_path / "first", model=llama, data=data, max_steps=2, prompts=(), rank=2, alpha=6, variant="dora",
        targets="attention",
    )  # fmt: skip
    trained(first, tmp_path / "first")
    adapter = replace(first.output, uri=f"{first.output.uri}/adapter")
    second = a_run(tmp_path / "second", model=llama, data=data, max_steps=2, prompts=(), initial_adapter=adapter)

    (artifact,) = trained(second, tmp_path / "second").artifacts

    assert (artifact.lora_rank, artifact.servable) == (2, "merged only: vllm does not load DoRA")
    assert (
        "| adapter | LoRA rank 2, alpha 6, k_proj, o_proj, q_proj, v_proj, dora; continued from an earlier adapter |"
        in (tmp_path / "second/out/adapter/README.md").read_text()
    )


def test_the_card_shows_both_models(tmp_path: Path) -> None:
    """What it was made from, and base against tuned."""
    run = a_run(tmp_path, model=Path("/m"), data=Path("/d"))
    published = Published(
        evaluation=EvaluationResult(
            examples=20, base_loss=3.5, tuned_loss=2.25, base_token_accuracy=0.25, tuned_token_accuracy=0.5,
            samples=(Sample(prompt="Hi", base="", tuned="Hello\nyou"),),
        ),
        computation="float32 weights, float32 computation on cpu", steps=8, final_loss=2.0, training_seconds=3.0,
        speed=Speed(tokens_per_second=51_234.5, model_flop_utilisation=0.4142, padding_share=0.0706),
    )  # fmt: skip
    described = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    artifacts.write_card(tmp_path, run, published)
    card = (tmp_path / "README.md").read_text()

    assert "| base model | `file:///m` |\n| licence of the base model | its model card states none |" in card
    assert f"torch {metadata.version('torch')}, transformers {metadata.version('transformers')}" in card
    settings = json.loads(card.partition("```json\n")[2].partition("\n```")[0])
    assert (settings["method"], settings["training"]["learningRate"], settings["layout"]["microBatchSize"]) == (
        "lora",
        0.005,
        4,
    )
    assert "| adapter | LoRA rank 4, alpha 8, all-linear, standard |" in card
    assert "| served by vllm | yes |" in card
    assert "| speed | 51,234 tokens/s on 1 GPU, 41 % model FLOP utilisation, 7 % padding |" in card
    assert "| loss | 3.5000 | 2.2500 |" in card
    assert "| loss on a general text | not measured | not measured |" in card
    assert "> Hi\n\n- base: (nothing)\n- tuned: Hello you" in card


def test_the_outcome_of_a_real_run_fits_a_termination_message(tmp_path: Path, llama: Path, data: Path) -> None:
    """With samples, artifacts and both evaluations."""
    run = changed(a_run(tmp_path, model=llama, data=data, prompts=("red cat", "one two", "north")))

    assert len(outcome_text(trained(run, tmp_path)).encode()) <= 4096


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_run_that_diverges_where_it_is_evaluated_says_so(loss: float) -> None:
    """Not that a number is out of range: trying again would diverge again."""
    refuse_infinite("the evaluation loss", 1.5, 7)
    with pytest.raises(UserError) as refusal:
        refuse_infinite("the evaluation loss", loss, 8)

    assert (refusal.value.reason, refusal.value.message) == (
        "LossDiverged",
        f"the evaluation loss became {loss} at step 8: lower spec.training.learningRate, raise warmupFraction or look for "
        "broken rows with `finetune data preview`",
    )


def test_the_tokenizer_is_written_in_words_that_transformers_4_reads(tmp_path: Path) -> None:
    """Its class, and its special tokens as a list under the key for a list; transformers 5 reads back the same tokenizer."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    save_tokenizer(tokenizer, tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    again = AutoTokenizer.from_pretrained(tmp_path)

    assert (written["tokenizer_class"], written["additional_special_tokens"]) == ("PreTrainedTokenizerFast", ["<tool>"])
    assert written.keys().isdisjoint({"extra_special_tokens", "backend", "is_local"})
    assert again.all_special_tokens == tokenizer.all_special_tokens
    assert again("red cat<tool>")["input_ids"] == tokenizer("red cat<tool>")["input_ids"]
    assert (again.chat_template, type(again)) == (tokenizer.chat_template, type(tokenizer))
