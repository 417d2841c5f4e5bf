"""`finetune gpus`: the GPU types that the planner knows, with where each figure comes from."""

from dataclasses import asdict

from finetune_operator.cli.output import Output, allowed, print_list
from finetune_operator.cli.tables import at_the_right, fitted, sentence, terminal_width
from finetune_operator.planning.pools.gpus import GPUS, Gpu, unsupported

COLUMNS = (
    ("GPU TYPE", "name"), ("GIB", "memory_gib"), ("NVIDIA-SMI MIB", "nvidia_smi_mib"), ("BF16 TFLOP/S", "tflops"),
    ("MEASURED", "measured_tflops"), ("TB/S", "memory_tbps"), ("LINK GB/S", "link_gbps"),
)  # fmt: skip

DROPPED = ("NVIDIA-SMI MIB", "MEASURED", "LINK GB/S")
"""In this order, where a terminal is narrow."""


def command(
    output: Output = "",
) -> None:
    """List the GPU types that spec.gpuType of a GPUPool accepts, with memory (as PyTorch reports it), speed and bandwidth."""
    if shape := allowed(output, "json", "yaml", "name"):
        print_list([asdict(entry) for entry in GPUS], shape)
        return
    refused = [entry.name for entry in GPUS if unsupported(entry)]
    width, figures = terminal_width(), [title for title, key in COLUMNS if key != "name"]
    print("\n".join(fitted(at_the_right(table(GPUS), *figures), width, shorten="", drop=DROPPED)))
    for each in (
        "GIB is the lowest value that PyTorch was seen to report. * from memory of a data sheet: verify before use.",
        f"Jobs cannot be planned on {', '.join(refused)}: the trainer image does not support them. "
        "For a MIG slice or a GPU not listed, set spec.memoryGiB of its GPUPool.",
        f"Source: {GPUS[0].source}.",
    ):
        print(sentence(each, width))


def table(entries: tuple[Gpu, ...]) -> list[list[str]]:
    """Return the catalogue as rows, the titles first."""
    return [[title for title, _ in COLUMNS], *([cell(entry, key) for _, key in COLUMNS] for entry in entries)]


def cell(entry: Gpu, key: str) -> str:
    """Write one figure; a star says that it is recalled, a blank that nobody knows it."""
    value = getattr(entry, key)
    text = f"{value:,}" if isinstance(value, int) else str(value) if isinstance(value, str) else f"{value:g}"
    return ("" if value in (0, 0.0) else text) + ("*" if key in entry.recalled else "")
