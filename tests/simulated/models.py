"""Shapes of well-known models, from 0.1 to 70 billion parameters, as config.json values. For tests.simulated.cases."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's widths."""

    model_type: str
    layers: int
    cut: int
    """Layers of the short form: simulating is work per layer, and memory is affine in them."""
    affordable: bool = False
    """Whether it is also simulated at its real depth."""
    values: dict[str, Any]
    experts: int = 0

    def config(self, layers: int) -> dict[str, Any]:
        """Return config.json with so many layers."""
        return {"model_type": self.model_type, "num_hidden_layers": layers, **self.values}


def _dense(hidden: int, mlp: int, heads: tuple[int, int], vocab: int, *, tied: bool, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": mlp, "num_attention_heads": heads[0], "num_key_value_heads": heads[1],
        "vocab_size": vocab, "tie_word_embeddings": tied, "max_position_embeddings": 32768, **more,
    }  # fmt: skip


MODELS: dict[str, Shape] = {
    "smollm2-135m": Shape(
        model_type="llama", layers=30, cut=3, affordable=True, values=_dense(576, 1536, (9, 3), 49152, tied=True)
    ),
    "qwen2.5-0.5b": Shape(
        model_type="qwen2", layers=24, cut=2, affordable=True, values=_dense(896, 4864, (14, 2), 151936, tied=True)
    ),
    "llama-3.2-1b": Shape(
        model_type="llama", layers=16, cut=2, affordable=True, values=_dense(2048, 8192, (32, 8), 128256, tied=True, head_dim=64)
    ),
    "gemma-3-1b": Shape(
        model_type="gemma3_text", layers=26, cut=6, affordable=True,
        values=_dense(1152, 6912, (4, 1), 262144, tied=True, head_dim=256, sliding_window=512),
    ),
    "gemma-2-2b": Shape(
        model_type="gemma2", layers=26, cut=2, values=_dense(2304, 9216, (8, 4), 256000, tied=True, head_dim=256, sliding_window=4096)
    ),
    "mistral-7b": Shape(
        model_type="mistral", layers=32, cut=2, values=_dense(4096, 14336, (32, 8), 32768, tied=False, head_dim=128, sliding_window=None)
    ),
    "qwen2.5-7b": Shape(model_type="qwen2", layers=28, cut=2, values=_dense(3584, 18944, (28, 4), 152064, tied=False)),
    "qwen3-8b": Shape(
        model_type="qwen3", layers=36, cut=2, values=_dense(4096, 12288, (32, 8), 151936, tied=False, head_dim=128)
    ),
    "llama-3.1-8b": Shape(
        model_type="llama", layers=32, cut=2, values=_dense(4096, 14336, (32, 8), 128256, tied=False, head_dim=128)
    ),
    "mixtral-8x7b": Shape(
        model_type="mixtral", layers=32, cut=2, experts=8,
        values=_dense(4096, 14336, (32, 8), 32000, tied=False, num_local_experts=8, num_experts_per_tok=2),
    ),
    "qwen3-30b-a3b": Shape(
        model_type="qwen3_moe", layers=48, cut=2, experts=128,
        values=_dense(
            2048, 6144, (32, 4), 151936, tied=False, head_dim=128, num_experts=128, num_experts_per_tok=8,
            moe_intermediate_size=768, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True,
        ),
    ),
    "llama-3.1-70b": Shape(
        model_type="llama", layers=80, cut=2, values=_dense(8192, 28672, (64, 8), 128256, tied=False, head_dim=128)
    ),
}  # fmt: skip
