"""What weights are stored in: those of a base model, and of what is published of it. Called by saving and exports."""

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def base_dtype(found: str, model_bytes: int, parameters: int) -> str:
    """Return the type of most weights of a base model, which is what a full fine-tune of it is published in.

    `found` is what preflight says; empty where it does not: then the size tells, although files also have headers, and perhaps towers.
    """
    return found or (FLOAT32 if model_bytes > 3 * parameters else BFLOAT16)


def width(dtype: str) -> int:
    """Return the bytes of a weight of a model that is trained or published."""
    return 4 if dtype == FLOAT32 else 2
