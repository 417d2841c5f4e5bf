"""How the result of a job is used: commands and code with its own addresses filled in. Pure; called by report_page."""

from finetune_contract.engines import VLLM_OWN_STOPS

from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.status import ReportedJob

USUAL_RANK = 16
"""Of vLLM: adapters with a higher one need an option."""


def usage(job: ReportedJob) -> list[tuple[str, str]]:
    """Return what to do, and how; nothing before there is a result."""
    uri = job.status.adapter_uri
    if not uri:
        return []
    have = {str(one.kind): one for one in job.status.artifacts}
    adapter, whole = have.get("adapter"), have.get("merged")
    if adapter is None and have:
        return [*fetched(uri, "model"), served(job, folder_of(uri, "model"))]
    loads = adapter is None or not adapter.servable or adapter.servable.startswith("vllm")
    folder = folder_of(uri, "adapter")
    code = (
        "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
        f'model = AutoPeftModelForCausalLM.from_pretrained("{folder}")\ntokenizer = AutoTokenizer.from_pretrained("{folder}")'
    )
    return [
        *fetched(uri, "adapter"),
        *([with_adapter(job, adapter, folder)] if loads else merged(job, whole)),
        ("Load it in Python", code),
    ]


def with_adapter(job: ReportedJob, adapter: ArtifactStatus | None, folder: str) -> tuple[str, str]:
    """Return how vLLM serves an adapter that it loads."""
    base = job.spec.model.source.removeprefix("hf://").removeprefix("file://")
    rank = adapter.lora_rank if adapter is not None else 0
    longest = f" --max-lora-rank {rank}" if rank > USUAL_RANK else ""
    modules = f"--lora-modules {job.metadata.name}={folder}"
    own = adapter is not None and VLLM_OWN_STOPS in adapter.servable
    stops = f" {VLLM_OWN_STOPS} {folder}" if own else ""
    return "Serve it with vLLM", f"vllm serve {base} --enable-lora{longest} {modules}{stops}"


def merged(job: ReportedJob, whole: ArtifactStatus | None) -> list[tuple[str, str]]:
    """Return how vLLM serves a result whose adapter it does not load: merged, if that was exported."""
    if whole is not None:
        return [*fetched(whole.uri, "merged"), served(job, folder_of(whole.uri, "merged"))]
    about = (
        "vLLM does not load this adapter. Add merged to the job, delete it and apply it again: nothing is trained again"
    )
    return [(about, "output: {exports: [merged]}")]


def served(job: ReportedJob, folder: str) -> tuple[str, str]:
    """Return how vLLM serves a whole model."""
    return "Serve it with vLLM", f"vllm serve {folder} --served-model-name {job.metadata.name}"


def fetched(uri: str, name: str) -> list[tuple[str, str]]:
    """Return how a result comes to where it is used; nothing where it is there."""
    if uri.startswith("s3://"):
        return [("Fetch it from the bucket", f"aws s3 sync {uri} ./{name}")]
    if uri.startswith("gs://"):
        return [("Fetch it from the bucket", f"gcloud storage rsync --recursive {uri} ./{name}")]
    if uri.startswith("az://"):
        account, container, path = uri.removeprefix("az://").split("/", 2)
        command = f"az storage blob download-batch --account-name {account} --source {container} --pattern '{path}/*' --destination ."
        return [("Fetch it from the container", f"{command} && mv {path} {name}")]
    if uri.startswith("oci://"):
        return [("Fetch it from the registry", f"oras pull {uri.removeprefix('oci://')} --output ./{name}")]
    if uri.startswith("pvc://"):
        claim = uri.removeprefix("pvc://").partition("/")[0]
        return [("It is in a PersistentVolumeClaim", f"mount the claim {claim} at /mnt")]
    return []


def folder_of(uri: str, name: str) -> str:
    """Return where a result is then."""
    if uri.startswith(("s3://", "gs://", "az://", "oci://")):
        return f"./{name}"
    if uri.startswith("pvc://"):
        return "/mnt/" + uri.removeprefix("pvc://").partition("/")[2]
    return uri.removeprefix("file://").removeprefix("hf://")
