"""A scenario of a stack that is not ours, for the tests of the memory model: LoRA of Llama-2-7B, changed as a test needs."""

import json
from typing import Any

from finetune_operator.planning.memory.estimate import MemoryEstimate, estimate
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.scenario_lines import scenario_of

LINEAR, TABLE = 6_476_271_616, 32_000 * 4096
LORA = {
    "id": "a", "method": "lora", "quantization": "none", "loraRank": 8, "loraTargets": ["q", "v"],
    "trainsEmbeddings": False, "adapterDtype": "float32", "weightsDtype": "bfloat16", "sequenceLength": 2048,
    "microBatchSize": 1, "batching": "fixed", "activationCheckpointing": True, "activationOffload": False,
    "parameterOffload": False, "residualFloat32": False, "optimizer": "adamw", "optimizerInBackward": False,
    "sharding": "none", "numGpus": 1, "lossKernel": "stock", "attention": "flash", "torchCompile": False,
    "model": {
        "name": "llama-2-7b", "parameters": LINEAR + 2 * TABLE, "hiddenSize": 4096, "layers": 32, "attentionHeads": 32,
        "keyValueHeads": 32, "headDim": 128, "intermediateSize": 11008, "vocabSize": 32000, "gatedMlp": True,
        "tiedEmbeddings": False,
    },
}  # fmt: skip
FULL = {"method": "full", "loraRank": None, "loraTargets": None, "adapterDtype": None}


def scenario(**changes: Any) -> MemoryScenario:
    """Return LoRA of Llama-2-7B on one row of 2,048 tokens, changed."""
    return scenario_of(json.dumps(LORA | changes))[1]


def memory(**changes: Any) -> MemoryEstimate:
    """Return its estimate."""
    return estimate(scenario(**changes))
