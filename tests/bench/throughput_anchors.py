"""Well-known runs of other stacks, as runs of ours: for bench_throughput. They have no part in any fit."""

from dataclasses import dataclass

from tests.bench.throughput_rows import Row, row_of


@dataclass(frozen=True)
class Anchor:
    """A measured run with what is to be known about the comparison."""

    what: str
    row: Row


def _anchor(what: str, **run: str) -> Anchor:
    """Return an anchor; fields that are not given are those of LoRA on one NVIDIA H100."""
    reading = {
        "id": what, "stack": "anchor", "source": "anchor", "reference": "", "method": "lora", "micro_batch_size": "1",
        "activation_checkpointing": "yes", "sharding": "none", "gpus": "1", "gpu": "NVIDIA H100", **run,
    }  # fmt: skip
    return Anchor(what, row_of(reading))


ANCHORS = (
    _anchor(
        "MLPerf reference code, 70B LoRA, 8 H100, with evaluations", model="llama-2-70b", sequence_length="8192",
        sharding="zero3", gpus="8", tokens_per_second_per_gpu="565",
    ),
    _anchor(
        "MLPerf reference code, 70B LoRA, 64 A100", model="llama-2-70b", sequence_length="8192", sharding="zero3",
        gpus="64", gpu="A100", tokens_per_second_per_gpu="369",
    ),
    _anchor(
        "NeMo Automodel, 8B LoRA, 1 H100 (fused kernels)", model="llama-3-8b", sequence_length="4096",
        micro_batch_size="2", activation_checkpointing="no", tokens_per_second_per_gpu="12473",
    ),
    _anchor(
        "NeMo Automodel, 7B LoRA, 1 H100 (fused kernels)", model="qwen2.5-7b", sequence_length="4096",
        micro_batch_size="2", activation_checkpointing="no", tokens_per_second_per_gpu="14110",
    ),
    _anchor(
        "NeMo Automodel, 70B LoRA, 8 H100 (tensor parallel)", model="llama-3-70b", sequence_length="4096",
        micro_batch_size="2", sharding="zero3", gpus="8", tokens_per_second_per_gpu="1092",
    ),
    _anchor(
        "NeMo Automodel, 32B LoRA, 8 H100 (tensor parallel)", model="qwen2.5-32b", sequence_length="4096",
        micro_batch_size="2", activation_checkpointing="no", sharding="zero3", gpus="8",
        tokens_per_second_per_gpu="2250",
    ),
    _anchor(
        # 1,000 rows of at most 2,048 tokens in 18 minutes, four at a time: at most so many tokens
        "OpenAI's notebook, gpt-oss-20b LoRA, 1 H100, at most (loop)", model="gpt-oss-20b", sequence_length="2048",
        micro_batch_size="4", tokens_per_second_per_gpu="1896",
    ),
    _anchor(
        # Hugging Face's blog, "Accelerating Transformers Fine-Tuning with NVIDIA NeMo AutoModel" (June 2026): the best configuration of
        # Transformers v5, FSDP; the length of the rows is not stated where we read it, 4,096 tokens is assumed
        "Transformers v5, Qwen3-30B-A3B full, 8 H100 (FSDP)", model="qwen3-30b-a3b", method="full", sequence_length="4096",
        sharding="zero3", gpus="8", tokens_per_second_per_gpu="3075",
    ),
)  # fmt: skip
