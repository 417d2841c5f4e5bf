"""The parts that decoders are made of: linear layers and vectors, counted. Called by architecture and family_table.

A `Linear` is every matrix of one name and shape. Whatever is not a matrix (norms, biases of odd places, convolutions)
is counted in `vectors`. Counts are those of transformers' classes: tests/trainer/test_architecture_exact.py compares.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune_operator.planning.models.config import Config

Role = Literal["attention", "mlp", "expert", "router", "other", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """All matrices of one name and shape."""

    name: str
    """Last part of the module's name, such as q_proj; for stacked experts experts.gate_up_proj."""
    inputs: int
    outputs: int
    count: int
    """Matrices of this name in the model."""
    role: Role
    bias: bool = False
    experts: int = 0
    """Above 0: `count` matrices lie in tensors of so many experts each, which are no torch.nn.Linear."""
    active: int = -1
    """Matrices that one token passes; -1: all."""

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        return self.count * (self.inputs * self.outputs + self.bias * self.outputs)

    @property
    def num_active_parameters(self) -> int:
        """Those that one token passes."""
        return self.num_parameters if self.active < 0 else self.num_parameters * self.active // self.count


Flag = bool | str
"""True, False, or the key of config.json that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """How a family spells its mixture of experts."""

    experts: str = "num_experts"
    top_k: str = "num_experts_per_tok"
    width: str = "moe_intermediate_size"
    router: str = "gate"
    router_bias: bool = False
    expert_bias: bool = False
    shared: str = ""
    """Name of the shared expert's module; empty: none."""
    shared_width: Callable[[Config], int] = lambda _: 0
    shared_gate: bool = False
    """A gate of one output weighs the shared expert."""
    sparse_layers: Callable[[Config], int] = lambda config: config.layers
    dense_width: str = "intermediate_size"
    """Width of the MLP in layers without experts."""


def linear(name: str, inputs: int, outputs: int, count: int, role: Role, bias: bool = False) -> Linear:
    """Return a plain linear layer."""
    return Linear(name=name, inputs=inputs, outputs=outputs, count=count, role=role, bias=bias)


def split_attention(config: Config, family: "Family", layers: int | None = None) -> Iterator[Linear]:
    """Yield query, key, value and output projections."""
    count = config.layers if layers is None else layers
    bias, hidden = family.says(family.qkv_bias, config), config.hidden
    yield linear("q_proj", hidden, config.query_width, count, "attention", bias)
    yield linear("k_proj", hidden, config.key_value_width, count, "attention", bias)
    yield linear("v_proj", hidden, config.key_value_width, count, "attention", bias)
    yield linear(family.out_name, config.query_width, hidden, count, "attention", family.says(family.out_bias, config))


def fused_attention(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield one projection for query, key and value, and the output projection (Phi-3)."""
    width = config.query_width + 2 * config.key_value_width
    yield linear("qkv_proj", config.hidden, width, config.layers, "attention", family.says(family.qkv_bias, config))
    yield linear("o_proj", config.query_width, config.hidden, config.layers, "attention")


def falcon_attention(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield Falcon's fused projection: multi-query, grouped or full."""
    head = config.hidden // config.heads
    groups = config.optional("num_kv_heads", config.heads)
    width = 3 * config.hidden
    if config.flag("new_decoder_architecture"):
        width = (2 * groups + config.heads) * head
    elif config.flag("multi_query"):
        width = config.hidden + 2 * head
    bias = family.says(family.qkv_bias, config)
    yield linear("query_key_value", config.hidden, width, config.layers, "attention", bias)
    yield linear("dense", config.hidden, config.hidden, config.layers, "attention", bias)


def neox_attention(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield GPT-NeoX's fused projection."""
    bias = family.says(family.qkv_bias, config)
    yield linear("query_key_value", config.hidden, 3 * config.hidden, config.layers, "attention", bias)
    yield linear("dense", config.hidden, config.hidden, config.layers, "attention", bias)


def latent_attention(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield DeepSeek's multi-head latent attention: queries, keys and values through low-rank projections."""
    bias, count, hidden = family.says(family.qkv_bias, config), config.layers, config.hidden
    rope, nope, value = (config.number(key) for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    query_rank, latent = config.optional("q_lora_rank"), config.number("kv_lora_rank")
    queries = config.heads * (nope + rope)
    if query_rank:
        yield linear("q_a_proj", hidden, query_rank, count, "attention", bias)
        yield linear("q_b_proj", query_rank, queries, count, "attention")
    else:
        yield linear("q_proj", hidden, queries, count, "attention")
    yield linear("kv_a_proj_with_mqa", hidden, latent + rope, count, "attention", bias)
    yield linear("kv_b_proj", latent, config.heads * (nope + value), count, "attention")
    yield linear("o_proj", config.heads * value, hidden, count, "attention", bias)


def latent_vectors(config: Config) -> int:
    """Count the norms inside latent attention."""
    return config.layers * (config.optional("q_lora_rank") + config.number("kv_lora_rank"))


def gated_mlp(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield gate, up and down projections."""
    yield from gated(config, config.mlp_width, config.layers, family.says(family.mlp_bias, config))


def gated(config: Config, width: int, count: int, bias: bool = False, prefix: str = "") -> Iterator[Linear]:
    """Yield a gated MLP of some width."""
    if not count or not width:
        return
    yield linear(f"{prefix}gate_proj", config.hidden, width, count, "mlp", bias)
    yield linear(f"{prefix}up_proj", config.hidden, width, count, "mlp", bias)
    yield linear(f"{prefix}down_proj", width, config.hidden, count, "mlp", bias)


def fused_gate_mlp(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield a gated MLP whose gate and up projections are one matrix (Phi-3, GLM)."""
    bias = family.says(family.mlp_bias, config)
    yield linear("gate_up_proj", config.hidden, 2 * config.mlp_width, config.layers, "mlp", bias)
    yield linear("down_proj", config.mlp_width, config.hidden, config.layers, "mlp", bias)


def plain_mlp(up: str, down: str, width: str = "intermediate_size") -> Callable[[Config, "Family"], Iterator[Linear]]:
    """Return an MLP of two matrices with the family's names."""

    def layers(config: Config, family: "Family") -> Iterator[Linear]:
        bias = family.says(family.mlp_bias, config)
        wide = config.optional(width, 4 * config.hidden)
        yield linear(up, config.hidden, wide, config.layers, "mlp", bias)
        yield linear(down, wide, config.hidden, config.layers, "mlp", bias)

    return layers


def mixture(config: Config, family: "Family") -> Iterator[Linear]:
    """Yield routed experts, their router, the shared expert and the dense layers between."""
    moe = family.moe
    assert moe is not None
    sparse, experts = moe.sparse_layers(config), config.number(moe.experts)
    top_k, width = config.number(moe.top_k), config.number(moe.width)
    for name, inputs, outputs in (
        ("experts.gate_up_proj", config.hidden, 2 * width),
        ("experts.down_proj", width, config.hidden),
    ):
        yield Linear(
            name=name, inputs=inputs, outputs=outputs, count=sparse * experts, role="expert", bias=moe.expert_bias,
            experts=experts, active=sparse * top_k,
        )  # fmt: skip
    yield linear(moe.router, config.hidden, experts, sparse, "router", moe.router_bias)
    if moe.shared:
        yield from gated(config, moe.shared_width(config), sparse, prefix=f"{moe.shared}.")
    if moe.shared_gate:
        yield linear("shared_expert_gate", config.hidden, 1, sparse, "router")
    if dense := config.layers - sparse:
        yield from gated(config, config.number(moe.dense_width), dense)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model family: what its layers hold, by name."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keys that config.json may leave out."""
    attention: Callable[[Config, "Family"], Iterator[Linear]] = split_attention
    mlp: Callable[[Config, "Family"], Iterator[Linear]] = gated_mlp
    moe: Moe | None = None
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    out_name: str = "o_proj"
    norms: int = 2
    """Norms over the residual stream per layer."""
    final_norm: bool = True
    norm_bias: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    """Norm over one head, or over all heads together."""
    vectors: Callable[[Config], int] = lambda _: 0
    """Parameters beside matrices and the norms named above."""
    embeddings: Callable[[Config], int] = lambda _: 0
    """Parameters of embeddings beside the one of the vocabulary."""
    eager_only: bool = False
    """transformers 5.23 has no sdpa for it: its attention caps scores or has sinks."""

    def says(self, flag: Flag, config: Config) -> bool:
        """Resolve a flag."""
        return config.flag(flag) if isinstance(flag, str) else flag
