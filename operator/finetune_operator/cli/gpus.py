"""`finetune gpus`: the GPU types that the planner knows, with where each figure comes from."""

from dataclasses import asdict

from rich.table import Table

from finetune_operator.cli.console import in_words, unbroken
from finetune_operator.cli.output import Output, allowed, print_list
from finetune_operator.planning.pools.gpus import GPUS, Gpu, unsupported

COLUMNS = (
    ("GPU TYPE", "name"), ("GIB", "memory_gib"), ("NVIDIA-SMI MIB", "nvidia_smi_mib"), ("BF16 TFLOP/S", "tflops"),
    ("MEASURED", "measured_tflops"), ("TB/S", "memory_tbps"), ("LINK GB/S", "link_gbps"),
)  # fmt: skip


def command(
    output: Output = "",
) -> None:
    """List the GPU types that spec.gpuType of a GPUPool accepts, with memory (as PyTorch reports it), speed and bandwidth."""
    if shape := allowed(output, "json", "yaml", "name"):
        print_list([asdict(entry) for entry in GPUS], shape)
        return
    refused = [entry.name for entry in GPUS if unsupported(entry)]
    unbroken().print(table(GPUS))
    console = in_words()
    console.print(
        "GIB is the lowest value that PyTorch was seen to report. * from memory of a data sheet: verify before use."
    )
    console.print(
        f"Jobs cannot be planned on {', '.join(refused)}: the trainer image does not support them. "
        "For a MIG slice or a GPU not listed, set spec.memoryGiB of its GPUPool."
    )
    console.print(f"Source: {GPUS[0].source}.")


def table(entries: tuple[Gpu, ...]) -> Table:
    """Return the catalogue as a table."""
    result = Table(box=None, pad_edge=False)
    for title, key in COLUMNS:
        result.add_column(title, justify="left" if key == "name" else "right", no_wrap=True)
    for entry in entries:
        result.add_row(*(cell(entry, key) for _, key in COLUMNS))
    return result


def cell(entry: Gpu, key: str) -> str:
    """Write one figure; a star says that it is recalled, a blank that nobody knows it."""
    value = getattr(entry, key)
    text = f"{value:,}" if isinstance(value, int) else str(value) if isinstance(value, str) else f"{value:g}"
    return ("" if value in (0, 0.0) else text) + ("*" if key in entry.recalled else "")
