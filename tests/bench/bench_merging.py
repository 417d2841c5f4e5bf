"""What merging and exporting take, beside what the planner gives their Pod: `python -m tests.bench.bench_merging [SIZE...]`.

Models of the shapes of SmolLM2-135M and Llama-3.2-1B with random weights, three adapters of LoRA rank 64 on all linear layers. Each
case is the export Pod's own program in a process of its own. Two peaks: what the kernel cannot take back (RssAnon and RssShmem, sampled
every 20 ms), and its VmHWM, which includes mapped pages of files. The planner's memory must hold the first. Its seconds are of four cores,
and are printed beside those of this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from finetune_contract import CombineConfig, Evaluation, ExportConfig, Location, Metric, RunConfig, WeightedAdapter
from finetune_contract.wire import dumps, loads
from finetune_operator.api.plan import ExportPlan
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.exports import export_plan
from finetune_operator.planning.merging import merge_plan
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.speed.duration import START_SECONDS
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
ADAPTERS, RANK = 3, 64
ROWS, HELD_OUT, ANSWER_TOKENS, LENGTH = 60, 12, 8, 64
ON_A_NODE = {"FINETUNE_ALLOW_FILE": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one Pod does."""

    method: str = ""
    """Of the merge; empty: one adapter is exported."""
    exports: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(part for part in (self.method, *self.exports) if part)


CASES = (
    *(Case(method=method) for method in ("average", "svd", "ties", "dare")),
    Case(exports=("merged",)),
    Case(exports=("gguf-q8_0",)),
    Case(exports=("gguf-q4_k_m",)),
    Case(method="average", exports=("merged", "gguf-q8_0")),
)


def made(folder: Path, shape: dict[str, Any]) -> tuple[Path, list[Path]]:
    """Write the base and the adapters; return their folders."""
    base = for_llama_cpp(folder / "base")
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


def child(file: Path) -> None:
    """Be the Pod: say how long it took and how large it became."""
    from finetune_trainer.exporting.export import export  # noqa: PLC0415 - only the process that is measured loads it

    peak, ended = [0.0], threading.Event()
    watching = threading.Thread(target=watch, args=(peak, ended))
    watching.start()
    began = time.monotonic()
    outcome = export(loads(ExportConfig, file.read_text()), file.parent / f"workspace-{file.stem}")
    seconds = time.monotonic() - began
    ended.set()
    watching.join()
    assert outcome.outcome == "Succeeded", outcome.message
    print(json.dumps({"seconds": seconds, "kept": peak[0], "mapped": memory("VmHWM")}))


def memory(*names: str) -> float:
    """Return what the kernel counts for this process, in GiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(status[name].split()[0]) for name in names) / 2**20


def watch(peak: list[float], ended: threading.Event) -> None:
    """Keep the largest memory that the kernel could not take back."""
    while not ended.wait(0.02):
        peak[0] = max(peak[0], memory("RssAnon", "RssShmem"))


def measured(told: ExportConfig, file: Path) -> dict[str, float]:
    """Return seconds and GiB of a Pod."""
    file.write_text(dumps(told))
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_merging", "--child", str(file)],
        capture_output=True, text=True, check=False, env=os.environ | ON_A_NODE | {"FINETUNE_WORKSPACE": str(file.parent)},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def planned(shape: dict[str, Any], case: Case, adapter_bytes: int) -> ExportPlan:
    """Return what the planner gives the Pod."""
    form = architecture(LlamaConfig(**shape, max_position_embeddings=256).to_dict())
    model_bytes = 2 * form.num_parameters
    if not case.method:
        plan = export_plan(
            case.exports, architecture=form, model_bytes=model_bytes, adapter_bytes=adapter_bytes, mounted=True
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
    return merge_plan(spec, found)


def main(sizes: list[str]) -> None:
    """Print a line for each size and case; fail where a Pod would have been killed."""
    print(f"{ADAPTERS} adapters of rank {RANK}, {torch.get_num_threads()} threads")
    held = True
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            base, adapters = made(folder, SIZES[size])
            for number, case in enumerate(CASES):
                source = folder / (case.method or "average") / "out"
                if case.method and case.exports:
                    subprocess.run(["rm", "-rf", str(source)], check=True)
                made_bytes = sum(path.stat().st_size for path in adapters[0].glob("*.safetensors"))
                if not case.method:
                    made_bytes = sum(path.stat().st_size for path in (source / "adapter").glob("*.safetensors"))
                found = measured(config(folder, base, adapters, case), folder / f"case-{number}.json")
                plan = planned(SIZES[size], case, made_bytes)
                held = held and found["kept"] <= plan.memory_gib
                print(
                    f"{size} {case!s:28} {found['kept']:5.2f} GiB, {found['mapped']:5.2f} with files, of {plan.memory_gib}; "
                    f"{found['seconds']:6.1f} s, planned {plan.seconds - START_SECONDS}",
                    flush=True,
                )
    if not held:
        sys.exit("a peak is above the planned memory")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
    else:
        main(sys.argv[1:] or list(SIZES))
