"""What popular comparisons of LoRA, QLoRA and full fine-tuning claim about hours and dollars, with our figures beside.

`python -m finetune_operator.cli.ui.time_claims` prints the table of docs/vram-model.md. Each claim is held against itself first:
tokens over its own tokens per second are GPU-hours. Ours is the planner's, on the built-in pools at their prices.
"""

import functools
import math
from dataclasses import dataclass

from finetune_operator.api.pools import GPUPool
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.plan_data import Assumptions, supposed_preflight
from finetune_operator.cli.plan_page import PLACEHOLDERS
from finetune_operator.cli.plan_pools import built_in_pools
from finetune_operator.cli.ui.memory_claims import plain
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.models.catalogue import catalogue_entry
from finetune_operator.planning.planner import plan

L70, L8, L7, Q32 = "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-32B"
H100, A100 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained. The first comparison names its job; those that name none are given the same."""

    model: str
    method: str
    gpus: tuple[int, ...]
    """Those of the claim, then those on which it fits."""
    gpu_type: str = H100
    examples: int = 5000
    tokens_per_example: int = 1500
    epochs: int = 3

    @property
    def tokens(self) -> int:
        """Tokens of all epochs."""
        return self.examples * self.tokens_per_example * self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeClaim:
    """One row: who says what, at which of its own speeds, and the job that it is about."""

    who: str
    says: str
    speeds: tuple[float, ...] = ()
    """Tokens per second and GPU that it names, the slowest first."""
    job: Job
    why: str


CLAIMS = (
    TimeClaim(
        who="Digital Dashboard Hub", says="70B LoRA at 3,000 to 5,000 tokens/s per GPU, 6 to 8 GPU-hours", speeds=(3000, 5000),
        job=Job(model=L70, method="lora", gpus=(2, 4, 8)),
        why="its hours are near, its speed is not: 3,000 tokens/s of a 70B model need 840 of the 989 TFLOP/s of an H100",
    ),
    TimeClaim(
        who="Digital Dashboard Hub", says="70B QLoRA at 2,000 to 3,000 tokens/s, 10 to 14 GPU-hours", speeds=(2000, 3000),
        job=Job(model=L70, method="qlora", gpus=(1,)), why="again the hours are near, and the speed is three to four times too high",
    ),
    TimeClaim(
        who="Digital Dashboard Hub", says="70B full at 500 to 700 tokens/s per GPU, 180 to 240 GPU-hours", speeds=(500, 700),
        job=Job(model=L70, method="full", gpus=(8, 16, 24)), why="speed and hours differ by a factor of 20; the speed is the better one",
    ),
    TimeClaim(
        who="Digital Dashboard Hub", says="Qwen 32B full on four H100s, 80 to 120 GPU-hours",
        job=Job(model=Q32, method="full", gpus=(4, 8, 16)), why="neither four nor eight hold it without offload; the hours are too many",
    ),
    TimeClaim(
        who="at-a-glance comparison", says="8B LoRA $15 to $40", job=Job(model=L8, method="lora", gpus=(1,)),
        why="no tokens are named; the first comparison's job costs less",
    ),
    TimeClaim(
        who="at-a-glance comparison", says="8B QLoRA $12 to $20, so less than LoRA", job=Job(model=L8, method="qlora", gpus=(1,)),
        why="4-bit weights are expanded before each product: QLoRA saves memory, not time",
    ),
    TimeClaim(
        who="at-a-glance comparison", says="8B full $150 to $500 or more", job=Job(model=L8, method="full", gpus=(4, 8)),
        why="on the same rows full costs twice what LoRA does, not ten times",
    ),
    TimeClaim(
        who="NeuralPulse", says="8B LoRA $0.80 in the text, about $12 in the table", job=Job(model=L8, method="lora", gpus=(1,)),
        why="one job, two prices",
    ),
    TimeClaim(
        who="NeuralPulse", says="70B full, 20 h on 8 A100, $640", job=Job(model=L70, method="full", gpus=(8, 16, 24), gpu_type=A100),
        why="its states are 1,129 GB, the eight cards 640",
    ),
    TimeClaim(
        who="GigaGPU", says="7B on an RTX 3090: LoRA at 850 tokens/s in 32 min", speeds=(850,),
        job=Job(model=L7, method="lora", gpus=(1,), gpu_type="NVIDIA-GeForce-RTX-3090", examples=3000, tokens_per_example=512, epochs=1),
        why="the speed and the time agree",
    ),
    TimeClaim(
        who="GigaGPU", says="7B on an RTX 3090: QLoRA at 720 tokens/s in 24 min", speeds=(720,),
        job=Job(model=L7, method="qlora", gpus=(1,), gpu_type="NVIDIA-GeForce-RTX-3090", examples=3000, tokens_per_example=512, epochs=1),
        why="the slower method ends first: at 720 tokens/s the same rows take 36 min",
    ),
    TimeClaim(
        who="BearPlex", says="LoRA $50 to $500", job=Job(model=L70, method="lora", gpus=(4,)),
        why="a range of ten without a model or a number of tokens; 22.5 million tokens of a 70B model cost less than the least of it",
    ),
    TimeClaim(
        who="BearPlex", says="full $5,000 to $50,000 or more", job=Job(model=L70, method="full", gpus=(24,)),
        why="as above; 22.5 million tokens of a 70B model cost a hundredth of it",
    ),
)  # fmt: skip


def pool(gpu_type: str) -> GPUPool:
    """Return the built-in pool of a card at its on-demand price, or eight of one that none has, for nothing."""
    found = next(
        (one for one in built_in_pools() if one.spec.gpu_type == gpu_type and one.spec.capacity == "on-demand"), None
    )
    if found is None:
        node = {"cpus": 32, "memoryGiB": 256, "ephemeralGiB": 1000}
        spec = {"gpuType": gpu_type, "gpusPerNode": 8, "maxNodes": 1, "node": node, "pricePerGPUHourUSD": "0"}
        found = GPUPool.model_validate({"metadata": {"name": "desk", "uid": "desk"}, "spec": spec})
    roomy = {"max_nodes": 8, "node": found.spec.node.model_copy(update={"memory_gib": 8192, "ephemeral_gib": 16384})}
    return found.model_copy(update={"spec": found.spec.model_copy(update=roomy)})


def ours(job: Job) -> str:
    """Return what the planner says, per number of GPUs."""
    return "; ".join(f"{gpus} GPU{'' if gpus == 1 else 's'}: {_planned(job, gpus)}" for gpus in job.gpus)


def _planned(job: Job, gpus: int) -> str:
    entry = catalogue_entry(job.model)
    assert entry is not None
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"source": f"hf://{job.model}"}, **PLACEHOLDERS, "method": job.method,
            "training": {"epochs": job.epochs}, "evaluation": {"fraction": "0"},
            "resources": {"gpus": gpus, **({"offload": "none"} if job.method == "full" else {})},
        }
    )  # fmt: skip
    found = supposed_preflight(
        spec, entry.architecture, Assumptions(examples=job.examples, tokens_per_example=job.tokens_per_example)
    )
    offered = (pool(job.gpu_type),)
    try:
        run = plan(spec, architecture=entry.architecture, preflight=found, pools=offered, image="").plan
    except DoesNotFit:
        return "does not fit"
    estimate = run.estimate
    speed = f"{float(estimate.tokens_per_second) / gpus:,.0f} tokens/s per GPU"
    return f"{speed}, **{float(estimate.gpu_hours):.1f}** GPU-hours{_dollars(float(estimate.cost_usd))}"


def _dollars(cost: float) -> str:
    return f", **${cost:,.0f}**" if cost >= 0.5 else ""


def itself(claim: TimeClaim) -> str:
    """Return the GPU-hours that follow from the claim's own speed."""
    if not claim.speeds:
        return "no speed named"
    hours = sorted(claim.job.tokens / speed / 3600 for speed in claim.speeds)
    shown = " to ".join(_rounded(one) for one in hours)
    return f"{shown} GPU-hours"


def _rounded(hours: float) -> str:
    return f"{hours:.{max(0, 1 - math.floor(math.log10(hours)))}f}"


@functools.cache
def rows() -> tuple[dict[str, str], ...]:
    """Return the rows for a page."""
    return tuple(
        {
            "who": claim.who,
            "claim": claim.says,
            "byItsOwnSpeed": itself(claim),
            "ours": plain(ours(claim.job)),
            "why": claim.why,
        }
        for claim in CLAIMS
    )


def table() -> list[str]:
    """Return the rows in markdown."""
    heads = ["| who | claim | by its own speed | ours | why it differs |", "|---|---|---|---|---|"]
    return heads + [
        f"| {claim.who} | {claim.says} | {itself(claim)} | {ours(claim.job)} | {claim.why} |" for claim in CLAIMS
    ]


if __name__ == "__main__":
    print("\n".join(table()))
