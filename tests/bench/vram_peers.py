"""What other estimators say about a scenario, each re-stated from what it documents. Used by bench_vram and the plots.

Formulas are facts: these are ours to write down, nobody's code is copied. Each returns GiB per GPU, or None where the
estimator has no answer (several know full fine-tuning only). docs/vram-model.md names the documents.
"""

from collections.abc import Callable

from finetune_operator.planning.memory.constants import GIB
from finetune_operator.planning.memory.scenario import MemoryScenario

Peer = Callable[[MemoryScenario], float | None]


def accelerate(s: MemoryScenario) -> float | None:
    """Hugging Face accelerate estimate-memory: the largest line, 16 bytes a parameter in float32, 8 in half."""
    return None if s.adapter else s.shape.num_parameters * (16 if s.float32_weights else 8) / GIB


def deepspeed_states(s: MemoryScenario) -> float | None:
    """DeepSpeed's estimate_zero*_model_states_mem_needs: states only."""
    if s.adapter:
        return None
    p, n = s.shape.num_parameters, s.num_gpus
    if s.weight_shards > 1 or s.sharding == "zero3":
        return (4 * p / s.shape.num_layers + 18 * p / n) / GIB
    return (2 * p + 18 * p / n) / GIB


def llama_factory(s: MemoryScenario) -> float | None:
    """LLaMA-Factory's README: GB per billion parameters by method."""
    per = {"full": 18.0 if s.float32_weights else 8.0, "lora": 2.0, "qlora": 0.5}[s.method]
    if s.quantization == "int8":
        per = 1.0
    return per * s.shape.num_parameters / 1e9 / s.weight_shards


AXOLOTL = (
    (3.5e9, (6, 12, 24)),
    (9e9, (12, 20, 70)),
    (15e9, (18, 36, 120)),
    (40e9, (28, 75, 280)),
    (1e12, (44, 160, 480)),
)
"""Documented ranges per size (QLoRA, LoRA, full), their middles; bins between them interpolated."""


def axolotl(s: MemoryScenario) -> float | None:
    """Axolotl's docs/choosing_method: a range by size, without length or batch."""
    sizes = next(sizes for limit, sizes in AXOLOTL if s.shape.num_parameters <= limit)
    return sizes[{"qlora": 0, "lora": 1, "full": 2}[s.method]] / s.weight_shards


def blog_rule(s: MemoryScenario) -> float | None:
    """The rule that blogs copy: 16, 2.4 and 0.6 bytes a parameter."""
    return {"full": 16.0, "lora": 2.4, "qlora": 0.6}[s.method] * s.shape.num_parameters / s.weight_shards / GIB


def korthikanti(s: MemoryScenario) -> float | None:
    """16 bytes a parameter and Korthikanti et al.'s full recomputation: 2 s b h per layer, 34 s b h in one."""
    if s.adapter:
        return None
    boundary = s.tokens * s.shape.hidden_size
    layers = s.shape.num_layers
    stored = boundary * (2 * layers + 34) if s.activation_checkpointing else boundary * 34 * layers
    return (16 * s.shape.num_parameters / s.state_shards + stored) / GIB


def eleuther(s: MemoryScenario) -> float | None:
    """EleutherAI's calc_transformer_mem: 18 bytes, 34 s b h per layer even with recomputation, 5 GB beside."""
    if s.adapter:
        return None
    states = 18 * s.shape.num_parameters / s.state_shards
    return (states + 34 * s.tokens * s.shape.hidden_size * s.shape.num_layers) / GIB + 5.0


def llm_analysis(s: MemoryScenario) -> float | None:
    """llm-analysis: 18 bytes a parameter, boundaries and one layer with recomputation, bfloat16 logits."""
    if s.adapter:
        return None
    h = s.shape.hidden_size
    layer = s.tokens * (20 * h + 4 * s.shape.mlp_width)
    stored = 2 * s.tokens * h * s.shape.num_layers + layer if s.activation_checkpointing else layer * s.shape.num_layers
    return (18 * s.shape.num_parameters / s.state_shards + stored + 2 * s.tokens * s.shape.vocab_size) / GIB


def ibm_estimator(s: MemoryScenario) -> float | None:
    """IBM fm-training-estimator: P = L(12 h^2 + 13 h) + V h, s b h L (34 + 5 a s / h), one layer when checkpointed."""
    shape, h = s.shape, s.shape.hidden_size
    layers, tokens = shape.num_layers, s.tokens
    p = layers * (12 * h**2 + 13 * h) + shape.vocab_size * h
    stored = tokens * h * layers * (34 + 5 * shape.num_heads * s.sequence_length / h)
    stored /= layers if s.activation_checkpointing else 1
    if s.adapter is None:
        return ((2 + 2 + 4) * p / s.state_shards + stored) / GIB
    weights = 0.5625 * p if s.quantization != "none" else 2.0 * p
    adapters = s.adapter.num_parameters * 8
    inputs = 2 * tokens * (h + s.adapter.input_width)
    return (weights / s.weight_shards + adapters + inputs + stored) / GIB


def unsloth_studio(s: MemoryScenario) -> float | None:
    """Unsloth Studio's documented formula: 4-bit weights / 3.2, gradients with a floor, one or two layers, 1.4 GB."""
    p, h = s.shape.num_parameters, s.shape.hidden_size
    weights = 2.0 * p / (3.6 if s.quantization == "nf4-double" else 3.2) if s.quantization != "none" else 2.0 * p
    trained = p if s.adapter is None else s.adapter.num_parameters
    moments = {"adamw": 8, "adamw-fused": 8}.get(s.optimizer, 4)
    gradients = max(2.0 * trained, 0.15 * weights)
    layers = 1.5 if s.activation_checkpointing else s.shape.num_layers
    stored = (h + 2 * s.shape.key_value_width + 2 * s.shape.mlp_width) * s.tokens * 2 * 1.25 * layers
    adapters = 0.0 if s.adapter is None else 2.0 * trained
    sharing = 1.0 if s.num_gpus == 1 else 1 / (1 + 0.85 * (s.num_gpus - 1))
    return ((weights + adapters + gradients + moments * trained) * sharing + stored) / GIB + 1.4e9 / GIB


def gpu_poor(s: MemoryScenario) -> float | None:
    """gpu_poor: P = 2 V h + L (4 h^2 + 3 i h), Adam three times the weights, quadratic attention, 0.15 checkpointed."""
    shape, h = s.shape, s.shape.hidden_size
    i, layers, length = shape.mlp_width, shape.num_layers, s.sequence_length
    p = 2 * shape.vocab_size * h + layers * (4 * h**2 + 3 * i * h)
    per_layer = length * (17.5 * h + 8 * i) * 2 + 5 * shape.num_heads * length**2
    stored = s.micro_batch_size * layers * per_layer * (0.15 if s.activation_checkpointing else 1.0)
    if s.adapter is None:
        return (2 * p * 4 / s.state_shards + stored) / GIB + 0.65
    extra = 0.0
    weights = 2.0 * p
    if s.quantization != "none":
        weights = 0.5 * p
        extra = 0.75 * (15 * h + 6 * i) * layers * 50 * (length / 50) ** 0.5 * s.micro_batch_size
    return (weights / s.weight_shards + 16 * s.adapter.num_parameters + stored + extra) / GIB + 0.65


PEERS: dict[str, Peer] = {
    "accelerate": accelerate,
    "DeepSpeed states": deepspeed_states,
    "LLaMA-Factory table": llama_factory,
    "axolotl table": axolotl,
    "gpu_poor": gpu_poor,
    "EleutherAI calc": eleuther,
    "16P + Korthikanti": korthikanti,
    "llm-analysis": llm_analysis,
    "IBM fm-training-estimator": ibm_estimator,
    "Unsloth Studio": unsloth_studio,
    "blog rule 16P/2.4P/0.6P": blog_rule,
}
"""Name -> estimator."""
