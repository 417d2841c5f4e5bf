"""How the result of a job is used: commands and code with its own addresses filled in. Pure; called by report_page."""

from finetune_operator.api.status import FineTuneJob

HERE = "./adapter"


def usage(job: FineTuneJob) -> list[tuple[str, str]]:
    """Return what to do, and how; nothing before there is a result."""
    uri = job.status.adapter_uri
    if not uri:
        return []
    base = job.spec.model.source.removeprefix("hf://").removeprefix("file://")
    place = uri.removeprefix("file://").removeprefix("hf://")
    is_adapter = any(one.kind == "adapter" for one in job.status.artifacts) or not job.status.artifacts
    fetch = [("Fetch it from the bucket", f"aws s3 sync {uri} {HERE}")] if uri.startswith("s3://") else []
    folder = HERE if uri.startswith("s3://") else place
    if uri.startswith("pvc://"):
        folder = "/mnt/" + uri.removeprefix("pvc://").partition("/")[2]
        fetch = [
            (
                "It is in a PersistentVolumeClaim",
                f"mount the claim {uri.removeprefix('pvc://').partition('/')[0]} at /mnt",
            )
        ]
    if not is_adapter:
        return [*fetch, ("Serve it with vLLM", f"vllm serve {folder} --served-model-name {job.metadata.name}")]
    rank = max((one.lora_rank for one in job.status.artifacts), default=0)
    longest = f" --max-lora-rank {rank}" if rank > 16 else ""
    return [
        *fetch,
        ("Serve it with vLLM", f"vllm serve {base} --enable-lora{longest} --lora-modules {job.metadata.name}={folder}"),
        (
            "Load it in Python",
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
            f'model = AutoPeftModelForCausalLM.from_pretrained("{folder}")\ntokenizer = AutoTokenizer.from_pretrained("{folder}")',
        ),
    ]
