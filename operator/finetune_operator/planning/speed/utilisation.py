"""The arithmetic that a model needs per trained token, and the share of the GPUs' peak that a speed makes of it. Called by report.

Model FLOP utilisation (MFU) as in PaLM (Chowdhery and others 2022, appendix B): tokens per second times the operations that the
method needs for one token, over the peak of the GPUs. What a layout computes besides (recomputed activations, padding, masked pairs)
is not counted: it makes a run slower, and so its MFU lower.
"""

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPoolSpec
from finetune_operator.planning.layouts import Work
from finetune_operator.planning.models.architecture import linears, sliding_layers
from finetune_operator.planning.pools.gpus import gpu

OUTPUT_PROJECTIONS = ("o_proj", "dense")
"""The projection after attention. Its input is as wide as all values; the linear attention of Qwen3.5 has another name, and no scores."""


def flops_per_token(work: Work) -> int:
    """Return the operations of one trained token of a mean row.

    With N active parameters, the looked-up embedding left out: full fine-tuning needs 6N (2N forward, 4N backward); adapters need 4N,
    because frozen weights have no gradients, and 6 per parameter of their own. Attention adds three times its forward pass.
    """
    model, trained = work.architecture, work.num_trainable_parameters
    weights = 6 * _multiplied(model) if work.method == "full" else 4 * _multiplied(model) + 6 * trained
    return round(weights + 3 * _attention_flops(model, _row_tokens(work)))


def peak_tflops(pool: GPUPoolSpec) -> float | None:
    """Return the nominal dense peak of one GPU of a pool; None for CPUs and for GPUs that the catalogue lacks."""
    entry = gpu(pool.gpu_type)
    if entry is None:
        return None
    is_slice = bool(pool.memory_gib) and "/mig-" in pool.resource_name
    return entry.tflops * (min(1.0, float(pool.memory_gib or 0) / entry.memory_gib) if is_slice else 1.0)


def utilisation(tokens_per_second: float, flops: int, *, gpus: int, peak: float | None) -> float | None:
    """Return the share of the GPUs' peak; None where there is no peak to compare with."""
    return tokens_per_second * flops / (gpus * peak * 1e12) if peak and flops else None


def _row_tokens(work: Work) -> float:
    """Return how far attention reaches: packed rows are masked from each other."""
    return min(work.evaluation_tokens, work.sequence_length) if work.packed else work.mean_tokens


def _multiplied(model: ModelArchitecture) -> int:
    """Return the weights that a token is multiplied with. A tied embedding is the output head, an untied one is only looked up."""
    looked_up = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    return model.num_active_parameters - looked_up


def _attention_flops(model: ModelArchitecture, tokens: float) -> float:
    """Return the forward operations of scores and weighted values for one token: 2 per pair and column of each."""
    windowed, window = sliding_layers(model)
    share = windowed / model.num_layers if model.num_layers else 0.0
    keys = (1 - share) * tokens / 2 + share * _keys_in_window(tokens, window)
    return 2 * keys * sum(_score_widths(model))


def _keys_in_window(tokens: float, window: int) -> float:
    """Return the mean number of keys that a token sees through a window: fewer at the beginning of the row."""
    return tokens / 2 if tokens <= window else window - window * window / (2 * tokens)


def _score_widths(model: ModelArchitecture) -> tuple[int, int]:
    """Return the columns of all queries and of all values, over all layers that have scores."""
    parts = [part for part in linears(model) if part.role == "attention"]
    values = sum(part.inputs * part.count for part in parts if part.name in OUTPUT_PROJECTIONS)
    by_name = {part.name: part.outputs * part.count for part in parts}
    if "kv_b_proj" not in by_name:
        return values, values
    # latent attention: queries and keys carry the rotary part besides
    return by_name.get("q_b_proj") or by_name["q_proj"], values
