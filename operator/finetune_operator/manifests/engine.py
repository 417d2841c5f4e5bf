"""The servers that published results are made ready for, with the versions that were tried. Light: a help text reads it."""

from typing import Literal

Engine = Literal["vllm", "kserve", "llama-cpp"]

IMAGES: dict[Engine, str] = {
    "vllm": "vllm/vllm-openai:v0.32.0",
    "llama-cpp": "ghcr.io/ggml-org/llama.cpp:server-b11549",
}
