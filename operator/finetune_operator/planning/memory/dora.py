"""What DoRA takes in the forward pass, for the norm of a matrix with its change. Called by activations.

The order is that of peft/tuners/lora/dora.py (0.19): the change is made by sending the identity matrix through the adapter,
then it is scaled, added to the matrix, and the norm of every row of the sum is taken; the outputs come after that.
"""

from finetune_operator.planning.memory.scenario import AdapterLoad, MemoryScenario

DORA_BYTES = 4.0
"""Per output of an adapted matrix and token: the results of matrix and adapter, which are scaled by the magnitude."""


def norm_peak_bytes(s: MemoryScenario, adapter: AdapterLoad) -> float:
    """Return the most that the last adapted matrix needs beyond what its layer saves: for its norm, or for its product after."""
    before = norm_matrix_bytes(adapter) - unsaved_bytes(s, adapter)
    return max(before, product_bytes(s, adapter)) + s.tokens * held_width_bytes(s, adapter)


def held_width_bytes(s: MemoryScenario, adapter: AdapterLoad) -> float:
    """Return what is held per token meanwhile.

    With a float32 adapter the input's cast and, with dropout, what is left of that; the input itself where it is the MLP's
    product, which nothing keeps; and of the residual's width the norm's output, the sum it came from, the matrix's result.
    """
    wide = adapter.casts_inputs
    casts = (4.0 if wide else 0.0) * (2 if adapter.dropout else 1)
    # A layer is recomputed when its last result is asked for, whose scaling has gone backward: in float32 and cast, twice.
    started = 12.0 if wide and adapter.adapts_down and s.activation_checkpointing else 0.0
    return (casts + (2.0 if adapter.adapts_down else 0.0)) * adapter.normed_inputs + (
        6.0 + started
    ) * s.shape.hidden_size


def product_bytes(s: MemoryScenario, adapter: AdapterLoad) -> float:
    """Return what the product after the norm needs, which dropout has made anew: the input cast once more.

    Matrix and change are still there in float32, and the identity in 16 bit.
    """
    if not adapter.dropout or not adapter.casts_inputs:
        return 0.0
    matrix = 2.0 * adapter.normed_inputs**2 + 8.0 * adapter.normed_inputs * adapter.normed_outputs
    return matrix + 2.0 * s.tokens * adapter.normed_inputs


def unsaved_bytes(s: MemoryScenario, adapter: AdapterLoad) -> float:
    """Return what the last matrix will save after its norm: its outputs, its input in 16 bit, with dropout the matrix."""
    tokens = s.tokens * (DORA_BYTES * adapter.normed_outputs + 2.0 * adapter.normed_inputs)
    copied = adapter.dropout and adapter.casts_inputs
    return tokens + (2.0 * adapter.normed_inputs * adapter.normed_outputs if copied else 0.0)


def norm_matrix_bytes(adapter: AdapterLoad) -> float:
    """Return the most that one matrix needs for its norm.

    Float32 adapters under autocast: the identity and its 16-bit copy, which autograd keeps, and the change in 16 bit; then
    that copy, and in float32 matrix, change, the change scaled, and the sum. In 16 bit there are no copies.
    """
    square, matrix = adapter.normed_inputs**2, adapter.normed_inputs * adapter.normed_outputs
    if adapter.casts_inputs:
        return max(6.0 * square + 2.0 * matrix, 2.0 * square + 16.0 * matrix)
    return 2.0 * square + 6.0 * matrix
