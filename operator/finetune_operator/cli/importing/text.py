"""The job.yaml of an import: what must be filled in, what differs and what has no equivalent stands above the fields. Pure."""

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.importing.imported import Imported
from finetune_operator.cli.output import in_shape

GROUPS = (
    ("Fill in before you submit it:", "fill_in"),
    ("Differs here:", "differs"),
    ("Chosen by the planner here:", "planned"),
    ("Without an equivalent:", "dropped"),
)


def document_of(job: Imported) -> dict[str, object]:
    """Return the manifest."""
    fields = [field.alias or name for name, field in FineTuneJobSpec.model_fields.items()]
    spec = {name: job.spec[name] for name in fields if name in job.spec}
    return {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": job.name}, "spec": spec}


def job_text(job: Imported, source: str, file: str) -> str:
    """Return the manifest with its comments."""
    lines = [f"# Imported from {source} ({job.tool}). See what it takes: finetune plan -f {file}"]
    for title, field in GROUPS:
        if told := getattr(job, field):
            lines += ["#", f"# {title}", *(f"#   {each}" for each in told)]
    return "\n".join(lines) + "\n" + in_shape(document_of(job), "yaml")


def said(job: Imported, source: str, file: str) -> list[str]:
    """Return what import prints: counts, what must be filled in, and the next step."""
    counts = ", ".join(
        f"{len(getattr(job, field))} {words}"
        for field, words in (
            ("differs", "that differ"),
            ("planned", "chosen by the planner"),
            ("dropped", "without an equivalent"),
        )
    )
    lines = [f"wrote {file} from {source} ({job.tool}); settings: {counts} (see its comments)"]
    if job.fill_in:
        lines += ["Fill in:", *(f"  {each}" for each in job.fill_in)]
    return [*lines, "", "Next:", f"  finetune plan -f {file}  # see memory, time and cost"]
