"""Is there a GPU that the image's libraries can use? Asked once per process, before anything is loaded. Called by worker."""

from finetune_trainer.errors import UserError
from finetune_trainer.runtime import ranks

DRIVER = "r580"
"""The first driver that runs CUDA 13, for which the image's PyTorch is built (CUDA 13.0's release notes: 580.65.06)."""

NO_KERNEL = "no kernel image"
"""What CUDA says of a GPU for which PyTorch was not compiled. It is known only when the first kernel starts."""

NO_VIRTUAL_MEMORY = "operation not supported"
"""What the driver of a vGPU says to expandable segments, which map memory piece by piece (Unsloth's issue 1446)."""


def refuse_without_accelerator(device: str) -> None:
    """Raise UserError(NoAccelerator) unless a kernel runs on this process's GPU, or the node says that the CPU will do."""
    import torch  # noqa: PLC0415 - see Worker.run

    if device == "cpu":
        return
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        raise UserError("NoAccelerator", no_accelerator(str(error))) from error
    torch.cuda.set_device(ranks.local_rank())
    try:
        torch.ones(2, device="cuda").cumsum(0).tolist()
    except RuntimeError as error:
        found = ".".join(map(str, torch.cuda.get_device_capability()))
        said = unusable(
            str(error), name=torch.cuda.get_device_name(), capability=found, kernels=torch.cuda.get_arch_list()
        )
        if said is None:
            raise
        raise UserError("NoAccelerator", said) from error
    # cuDNN's attention makes a plan for every shape that it has not seen, and nearly every batch brings a new length (FunASR's
    # issue 3704 measured 0.245 s a step with it and 0.100 s without, on a B200). Flash and memory-efficient kernels have no plans.
    torch.backends.cuda.enable_cudnn_sdp(False)


def no_accelerator(said: str) -> str:
    """Say that there is no usable GPU, in torch's own words too: a driver that is too old is seen only there."""
    first = said.strip().partition(". ")[0].partition("\n")[0].rstrip(".")
    return (
        f"the Pod sees no usable GPU ({first}): check that its pool's nodes have an NVIDIA driver of {DRIVER} or newer and a "
        "device plugin, and that GPUPool.spec.resourceName names what they offer"
    )


def unusable(said: str, *, name: str, capability: str, kernels: list[str]) -> str | None:
    """Say why a GPU that is there cannot run the first kernel, and what to do; None where the text is about something else."""
    if NO_KERNEL in said:
        made_for = ", ".join(kernel for kernel in kernels if kernel.startswith("sm_"))
        return (
            f"the GPU of this Pod ({name}) has compute capability {capability}, for which the trainer image has no kernels "
            f"(it has {made_for}): choose a pool with another GPU type"
        )
    if NO_VIRTUAL_MEMORY in said:
        return (
            f"the GPU of this Pod ({name}) cannot map memory piece by piece, as most vGPUs: add PYTORCH_ALLOC_CONF with the value "
            "pinned_max_round_threshold_mb:64 to spec.pod.environment of the GPUPool, which turns expandable segments off"
        )
    return None
