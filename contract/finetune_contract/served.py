"""What the objects that serve a result are made of, beside the result: pinned by the operator, told to the Pods. Part of contract."""

from dataclasses import dataclass, field
from typing import Any, Literal

Engine = Literal["vllm", "kserve", "llama-cpp"]

ENGINES: tuple[Engine, ...] = ("vllm", "kserve", "llama-cpp")

IMAGES: dict[Engine, str] = {
    "vllm": "vllm/vllm-openai:v0.32.0",
    "llama-cpp": "ghcr.io/ggml-org/llama.cpp:server-b11549",
}
"""The versions that were tried."""

LENGTH, CONCURRENCY = 4096, 8
"""What a server is sized for where nobody says."""


class NotServable(Exception):
    """The engine does not serve the result, or no GPUs hold it; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The numbers of a model that the memory of its server depends on."""

    num_parameters: int
    num_attention_heads: int
    kv_bytes_per_token: int
    """Keys and values of one token in all layers, in 16 bit."""
    adapter_parameters_per_rank: int
    """Of a LoRA on every linear layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFacts:
    """The model, the nodes for its server, and the image that fetches it."""

    model: ServedModel
    image: str
    """Of the trainer."""
    gpu_type: str
    """Empty: no pool holds the model."""
    gpu_memory_gib: float
    """0: the catalogue does not have the GPU."""
    resource_name: str
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the server."""

    length: int = LENGTH
    """Most tokens of a request, prompt and answer."""
    concurrency: int = CONCURRENCY
    """Requests at the same time, each of that length."""
    adapters: int = 0
    lora_rank: int = 0
    """The largest of any adapter."""
