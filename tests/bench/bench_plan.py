"""Print how long planning takes: plan() over 20 pools, and `finetune plan` from the shell, in milliseconds.

On a busy machine wall clock says more about the others: processor time is what an idle core would need.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.planner import plan

from tests.unit.planning.planning_builders import LLAMA_70B, a_pool, a_preflight, a_spec

ROOT = Path(__file__).parents[2]
GPUS = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L40S", "NVIDIA-H200")
LIMITS = {"plan() over 20 pools": 50, "finetune plan": 500}
TIMES = 20


def main() -> None:
    shape, preflight = architecture(LLAMA_70B), a_preflight(model_bytes=141_107_412_992)
    pools = [
        a_pool(f"pool-{number}", gpuType=GPUS[number % 4], maxNodes=4 + number % 5, pricePerGPUHourUSD=f"1.{number:02}")
        for number in range(20)
    ]

    def once() -> None:
        plan(a_spec(), architecture=shape, preflight=preflight, pools=pools, image="")

    def shell() -> None:
        subprocess.run(
            [Path(sys.executable).parent / "finetune", "plan", "-f", ROOT / "examples/02-lora-s3/job.yaml"],
            check=True,
            capture_output=True,
        )

    report("plan() over 20 pools", once)
    report("finetune plan", shell)


def report(name: str, action: Callable[[], None]) -> None:
    """Print wall clock and processor time of an action, the least and the median of many."""
    action()
    wall, processor = [], []
    for _ in range(TIMES):
        start, used = time.perf_counter(), processor_seconds()
        action()
        wall.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (processor_seconds() - used))
    print(
        f"{name:22}limit {LIMITS[name]:4} ms; wall {min(wall):5.0f} least {statistics.median(wall):5.0f} median; "
        f"processor {min(processor):5.0f} least {statistics.median(processor):5.0f} median, of {TIMES}"
    )


def processor_seconds() -> float:
    """Return the processor time of this process and its finished children."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


if __name__ == "__main__":
    main()
