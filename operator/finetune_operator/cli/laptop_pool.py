"""The pool that `finetune local up --operator` makes: pretended GPUs, computed on this machine's CPU."""

import os
from typing import Any

from finetune_operator.api.group import API_VERSION, POOL_KIND

GIB = 2**30


def laptop_pool() -> dict[str, Any]:
    """Return a pool of one node with the memory and CPUs of this machine; its one GPU is a process."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // GIB
    return {
        "apiVersion": API_VERSION,
        "kind": POOL_KIND,
        "metadata": {"name": "laptop"},
        "spec": {
            "gpuType": "local-cpu",
            "memoryGiB": str(max(4, memory * 3 // 4)),
            "gpusPerNode": 1,
            "maxNodes": 1,
            # numbers for the scheduler only: the process node enforces no limits
            "node": {"cpus": max(8, os.cpu_count() or 1), "memoryGiB": max(32, memory), "ephemeralGiB": 200},
            "nodeSelector": [{"key": "nvidia.com/gpu.product", "value": "local-cpu"}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "pricePerGPUHourUSD": "0",
        },
    }
