"""What merging and exporting take, beside what the planner gives their Pod: `python -m tests.bench.bench_merging [SIZE...]`.

Models of the shapes of SmolLM2-135M and Llama-3.2-1B with random weights, three adapters of LoRA rank 64 on all linear layers. Each
case is the export Pod's own program. Two peaks: what the kernel cannot take back (RssAnon and RssShmem, sampled every 20 ms), and VmHWM,
which includes mapped pages of files. The planner's memory must hold the first. Time is CPU seconds on one core, so that other work on the
machine does not count, beside the plan for a Pod of one core without the start of its container.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from finetune_contract import (
    ENV_RUN_CONFIG,
    ENV_TERMINATION_LOG,
    ENV_WORKSPACE,
    CombineConfig,
    Evaluation,
    ExportConfig,
    Location,
    Metric,
    RunConfig,
    WeightedAdapter,
    parse_outcome,
)
from finetune_contract.wire import dumps
from finetune_operator.api.plan import ExportPlan
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.cpu_pod import CONTAINER_SECONDS
from finetune_operator.planning.exports import export_plan
from finetune_operator.planning.merging import merge_plan
from finetune_operator.planning.models.architecture import architecture
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from tests.trainer.test_export import for_llama_cpp
from tests.trainer.tiny import a_run, conversations
from tests.unit.planning.planning_builders import a_preflight

SIZES: dict[str, dict[str, Any]] = {
    "135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49_152, "tie_word_embeddings": True,
    },
    "1B": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128_256, "tie_word_embeddings": True,
    },
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}</s>{% endgeneration %}"
    "{% else %}{{ m['content'] }}\n{% endif %}{% endfor %}"
)
GENERAL = resources.files("finetune_trainer.training").joinpath("general_text.txt").read_text(encoding="utf-8")
PIECES = 600
"""Of the tokenizer: the general text has about as many tokens as in those of real models."""

ADAPTERS, RANK = 3, 64
ROWS, HELD_OUT, ANSWER_TOKENS, LENGTH = 60, 12, 8, 64
ON_A_NODE = {"FINETUNE_ALLOW_FILE": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one Pod does."""

    method: str = ""
    """Of the merge; empty: one adapter is exported."""
    exports: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(part for part in (self.method, *self.exports) if part)


CASES = (
    Case(method="average"),
    Case(method="svd"),
    Case(exports=("gguf-q8_0",)),
    Case(exports=("gguf-q4_k_m",)),
    Case(exports=("merged",)),  # last of the three: the others would be made of it
    Case(method="average", exports=("merged", "gguf-q8_0")),
    Case(method="dare"),
    Case(method="ties"),
)


def made(folder: Path, shape: dict[str, Any]) -> tuple[Path, list[Path]]:
    """Write the base and the adapters; return their folders."""
    base = for_llama_cpp(folder / "base", text=GENERAL, pieces=PIECES)
    file = base / "tokenizer.json"
    written = json.loads(file.read_text())
    known = written["model"]["vocab"]
    known.update({f"<word {number}>": number for number in range(len(known), shape["vocab_size"])})
    file.write_text(json.dumps(written))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape, max_position_embeddings=256), dtype=torch.bfloat16)
    model.save_pretrained(base)
    adapters = [folder / f"adapter-{number}" for number in range(ADAPTERS)]
    lora = LoraConfig(r=RANK, lora_alpha=RANK, task_type="CAUSAL_LM", target_modules="all-linear")
    tuned = get_peft_model(model, lora)
    for place in adapters:
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.02)
                    parameter.data = parameter.data.to(torch.bfloat16)
        tuned.save_pretrained(place, save_embedding_layers=False)
    return base, adapters


def config(folder: Path, base: Path, adapters: list[Path], case: Case) -> ExportConfig:
    """Return what the Pod is told. An export without a merge has its result published by the case before it."""
    data = conversations(folder / "rows.jsonl", rows=ROWS)
    evaluation = Evaluation(
        fraction=0.2, max_examples=HELD_OUT, metrics=(Metric(name="exact", type="exactMatch"),),
        max_answer_tokens=ANSWER_TOKENS,
    )  # fmt: skip
    place = folder / (case.method or "average")
    run: RunConfig = a_run(
        place, model=base, data=data, evaluation=evaluation, max_steps=1, answers_at_once=8, sequence_length=LENGTH
    )
    run = replace(run, name="bench")
    merge = CombineConfig(
        adapters=tuple(WeightedAdapter(location=Location(uri=f"file://{one}"), weight=1.0) for one in adapters),
        method=case.method, rank=0, density=0.5, seed=1, output=run.output,
    )  # fmt: skip
    return ExportConfig(
        namespace=run.namespace, name=run.name, uid=run.uid, number=0, run_digest=run.run_digest, model=run.model,
        output=run.output, checkpoint=run.checkpoint.location, exports=case.exports,
        merge=replace(run, combine=merge) if case.method else None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a Pod took."""

    cpu_seconds: float
    """Of its process and of those that it started, from the start of Python to the end."""
    kept: float
    mapped: float


def measured(told: ExportConfig, file: Path) -> Found:
    """Run the Pod's own program on one core."""
    file.write_text(dumps(told))
    outcome, workspace = file.with_suffix(".outcome"), file.with_suffix("")
    workspace.mkdir()
    places = {ENV_RUN_CONFIG: str(file), ENV_WORKSPACE: str(workspace), ENV_TERMINATION_LOG: str(outcome)}
    pod = subprocess.Popen(
        [sys.executable, "-m", "finetune_trainer", "export"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | ON_A_NODE | places,
    )  # fmt: skip
    kept = mapped = 0.0
    while True:
        kept, mapped = max(kept, memory(pod.pid, "RssAnon", "RssShmem")), max(mapped, memory(pod.pid, "VmHWM"))
        ended, _, used = os.wait4(pod.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.02)
    said = parse_outcome(outcome.read_text()) if outcome.exists() else None
    assert said is not None
    assert said.outcome == "Succeeded", said.message
    shutil.rmtree(workspace)
    return Found(cpu_seconds=used.ru_utime + used.ru_stime, kept=kept, mapped=mapped)


def memory(pid: int, *names: str) -> float:
    """Return what the kernel counts for a process and those that it started, in GiB; nothing once it has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = sum(int(status[name].split()[0]) for name in names) / 2**20
    except (OSError, KeyError):
        return 0.0
    return own + sum(memory(int(child), *names) for child in children)


def planned(shape: dict[str, Any], case: Case, adapter_bytes: int) -> ExportPlan:
    """Return what the planner gives a Pod of one core, whose model lies on a volume."""
    form = architecture(LlamaConfig(**shape, max_position_embeddings=256).to_dict())
    model_bytes = 2 * form.num_parameters
    if not case.method:
        plan = export_plan(
            case.exports, architecture=form, model_bytes=model_bytes, adapter_bytes=adapter_bytes, mounted=True, cpus=1
        )
        assert plan is not None
        return plan
    entries = [{"source": f"s3://team/bench/{number}", "weight": "1"} for number in range(ADAPTERS)]
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"source": "pvc://models/base"}, "datasets": [{"source": "s3://team/bench/rows.jsonl"}],
            "mergeOf": {"method": case.method, "adapters": entries},
            "evaluation": {"metrics": [{"type": "exactMatch"}], "maxAnswerTokens": ANSWER_TOKENS},
            "output": {"destination": "s3://team/bench/out", **({"exports": list(case.exports)} if case.exports else {})},
        }
    )  # fmt: skip
    found = a_preflight(
        model_bytes=model_bytes, adapter_bytes=ADAPTERS * adapter_bytes, evaluation_examples=HELD_OUT, tokens_p50=40,
        generated_answers=HELD_OUT, sequence_length=LENGTH, architecture=form,
    )  # fmt: skip
    return merge_plan(spec, found, cpus=1)


def main(sizes: list[str]) -> None:
    """Print a line for each size and case; fail where a Pod would have been killed, or takes twice as long as planned or half."""
    print(f"{ADAPTERS} adapters of rank {RANK}, one core")
    good = True
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            base, adapters = made(folder, SIZES[size])
            for number, case in enumerate(CASES):
                source = folder / (case.method or "average") / "out"
                if case.method and case.exports:
                    shutil.rmtree(source)
                from_ = adapters[0] if case.method else source / "adapter"
                of_one = sum(path.stat().st_size for path in from_.glob("*.safetensors"))
                found = measured(config(folder, base, adapters, case), folder / f"case-{number}.json")
                plan = planned(SIZES[size], case, of_one)
                seconds = plan.seconds - CONTAINER_SECONDS
                good = good and found.kept <= plan.memory_gib and 0.5 <= seconds / found.cpu_seconds <= 2
                print(
                    f"{size} {case!s:28} {found.kept:5.2f} GiB, {found.mapped:5.2f} with files, of {plan.memory_gib}; "
                    f"{found.cpu_seconds:6.1f} CPU seconds, planned {seconds:.0f}",
                    flush=True,
                )
    if not good:
        sys.exit("a peak is above the planned memory, or a time is not within a factor of two of the plan")


if __name__ == "__main__":
    main(sys.argv[1:] or list(SIZES))
