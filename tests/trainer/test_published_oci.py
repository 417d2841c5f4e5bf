"""A run whose model, data and result are in a registry, from the claim to the export."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_contract import CLAIM_FILE, MANIFEST_FILE, Dataset, ExportConfig, Location, Model
from finetune_trainer.errors import UserError
from finetune_trainer.exporting.export import export
from finetune_trainer.preflight.claim import check_free, claim_output
from finetune_trainer.publishing.fetch import bring

from tests.servers.oci_registry import OciRegistry
from tests.trainer.data_inputs import a_config
from tests.trainer.registries import Opened, published
from tests.trainer.running import IN_PROCESS, local_node, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS


def test_a_run_lives_in_a_registry(place: Opened, registry: OciRegistry, repository: str, tmp_path: Path) -> None:
    """Base model and rows come from it; the result is named by digest, is found again by a second attempt, and gets its export."""
    place(":base").upload(tiny_model(tmp_path / "m"), "model")
    rows = conversations(tmp_path / "rows.jsonl", rows=60).read_bytes()
    published(registry, repository, [("application/vnd.cncf.model.dataset.v1.raw", "rows.jsonl", rows)])

    def at(tag: str) -> Location:
        return Location(uri=f"oci://{registry.host}/{repository}{tag}", secret="oci")

    run = a_run(tmp_path, model=tmp_path, data=tmp_path, max_steps=2, prompts=())
    run = replace(run, model=Model(location=at(":base")), datasets=(Dataset(location=at(":v1")),), output=at(":tuned"))
    run = replace(run, checkpoint=replace(run.checkpoint, location=Location(uri=f"file://{tmp_path}/checkpoints")))
    first, again = trained(run, tmp_path), trained(run, tmp_path)
    (artifact,) = first.artifacts
    bring(Location(uri=artifact.uri, secret="oci"), tmp_path / "brought", artifact.digest)
    config = ExportConfig(
        namespace=run.namespace, name=run.name, uid=run.uid, number=0, run_digest=run.run_digest, model=run.model,
        output=run.output, checkpoint=run.checkpoint.location, exports=("merged",),
    )  # fmt: skip
    with local_node(tmp_path / "workspace"):
        exported = export(config, tmp_path / "export")

    assert re.fullmatch(f"oci://{registry.host}/{repository}@sha256:[0-9a-f]{{64}}", artifact.uri)
    assert (again.reason, again.artifacts) == ("AlreadyPublished", first.artifacts)
    assert (tmp_path / "brought/adapter_config.json").is_file()
    assert [(one.kind, one.uri.partition("@")[2] != "") for one in exported.artifacts] == [
        ("adapter", True),
        ("merged", True),
    ]
    assert exported.artifacts[0] == artifact
    tags = ("tuned", "tuned-merged", "tuned.finetune")
    assert [registry.manifest(repository, tag)["artifactType"].split(".")[2] for tag in tags] == [
        "model",
        "model",
        "run",
    ]


def test_of_two_jobs_one_gets_a_tag(place: Opened, tmp_path: Path) -> None:
    """Preflight tries to write, claims, and refuses the second; nothing is at the tag before the result is."""
    output = place(":claimed")
    config = a_config(tmp_path, base=tmp_path, data=tmp_path)
    check_free(output, config)
    assert claim_output(output, None, config, "sha256:run") is None
    assert claim_output(output, None, config, "sha256:run") is None
    with pytest.raises(UserError, match="belongs to the job team-a/bot"):
        claim_output(output, None, replace(config, name="other", uid="uid-2"), "sha256:run")

    assert [file.path for file in output.files()] == [CLAIM_FILE]
    assert (output.exists("adapter"), output.read_text(MANIFEST_FILE)) == (False, None)


def test_a_tag_that_no_run_has_claimed_is_refused(
    place: Opened, registry: OciRegistry, repository: str, tmp_path: Path
) -> None:
    """Before any data is read."""
    output = place()
    published(registry, repository, [("application/vnd.cncf.model.weight.v1.raw", "model.safetensors", b"w")])
    with pytest.raises(UserError) as refusal:
        check_free(output, a_config(tmp_path, base=tmp_path, data=tmp_path))
    assert refusal.value.message == (
        f"{output.uri} already has an artifact that no run has claimed: choose another output.destination, or delete it"
    )
