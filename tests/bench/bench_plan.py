"""Print how long planning takes: plan() over 20 pools, and `finetune plan` from the shell, in milliseconds.

On a busy machine wall clock says more about the others: processor time is what an idle core would need.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune_operator.planning.architecture import architecture
from finetune_operator.planning.planner import plan

from tests.unit.planning.planning_builders import LLAMA_70B, a_pool, a_preflight, a_spec

ROOT = Path(__file__).parents[2]
GPUS = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L40S", "NVIDIA-H200")
LIMITS = {"plan() over 20 pools": 50, "finetune plan": 500}


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
            [Path(sys.executable).parent / "finetune", "plan", "-f", ROOT / "examples/03-qlora-70b/job.yaml"],
            check=True,
            capture_output=True,
        )

    for name, action, times in (("plan() over 20 pools", once, 10), ("finetune plan", shell, 7)):
        action()
        wall, processor = [], []
        for _ in range(times):
            start, used = time.perf_counter(), processor_seconds()
            action()
            wall.append(1000 * (time.perf_counter() - start))
            processor.append(1000 * (processor_seconds() - used))
        print(
            f"{name:22}limit {LIMITS[name]:4} ms; wall {statistics.median(wall):5.0f} median {min(wall):5.0f} least; "
            f"processor {statistics.median(processor):5.0f} median {min(processor):5.0f} least"
        )


def processor_seconds() -> float:
    """Return the processor time of this process and its finished children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
