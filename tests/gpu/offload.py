"""Part 6: offload: DeepSpeed's CPU optimizer builds without nvcc, and what pinned buffers take of the host's memory."""

import json
import os
import subprocess
import sys
import tempfile

from tests.gpu.card import Card

BUFFERS, BUFFER_BYTES = 4, 1_200_000_000
"""Their size is no power of two, to which the allocator would round it up: to 2 GiB."""

PINNED = """
import json, sys, torch
count, size = int(sys.argv[1]), int(sys.argv[2])
def resident():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024
if torch.cuda.is_available():
    torch.cuda.init()
before = resident()
kept = [torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available()) for _ in range(count)]
for one in kept:
    one.fill_(1)
print(json.dumps({"askedBytes": count * size, "residentBytes": resident() - before}))
"""
BUILD = """
import json, time
started = time.monotonic()
from deepspeed.ops.op_builder import CPUAdamBuilder
CPUAdamBuilder().load()
print(json.dumps({"buildSeconds": round(time.monotonic() - started, 1)}))
"""


def check(card: Card) -> None:
    """Pin buffers with and without the threshold that the Pods set, then build the optimizer with nvcc out of sight."""
    count, size = (2, 1_000_000) if card.reduced else (BUFFERS, BUFFER_BYTES)
    for name, setting in (("rounded up", ""), ("as the Pods set it", "pinned_max_round_threshold_mb:64")):
        environment = os.environ | {"PYTORCH_ALLOC_CONF": setting}
        card.say({"name": f"pinned buffers, {name}", **answer(PINNED, [str(count), str(size)], environment, card)})
    if card.reduced:
        card.say({"name": "CPUAdam without nvcc", "absent": "make test-offload builds it on a CPU"})
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if "cuda" not in part)
        hidden = os.environ | {"PATH": path, "CUDA_HOME": folder, "TORCH_EXTENSIONS_DIR": folder}
        card.say({"name": "CPUAdam without nvcc", **answer(BUILD, [], hidden, card)})


def answer(program: str, arguments: list[str], environment: dict[str, str], card: Card) -> dict[str, object]:
    """Run a program of its own, for the allocator reads its settings once; return what it prints, or how it ended."""
    command = [sys.executable, "-c", program, *arguments]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=max(1.0, card.left), check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": "not done at the deadline"}
    if ended.returncode:
        return {"error": ended.stderr.strip()[-300:]}
    found: dict[str, object] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found
