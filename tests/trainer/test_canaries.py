"""Secrets that servers send back: judge and tracker repeat what they were sent, and nothing of it is in what the Pod leaves behind."""

import base64
import json
from pathlib import Path

import pytest
from finetune_contract import SECRET_KEYS, Evaluation, Judge, Location, Metric, Tracker
from finetune_trainer.storage.secrecy import CONFIDENTIAL, redacted

from tests.servers.echo import echoing
from tests.trainer.running import IN_PROCESS, container
from tests.trainer.test_metrics import reviews
from tests.trainer.tiny import a_run, tiny_model

pytestmark = IN_PROCESS

CANARIES = {
    key: f"Canary-{key.lower()}/+=%3F&7" for key in SECRET_KEYS if key not in ("HF_ENDPOINT", "AWS_ENDPOINT_URL")
}
"""Unmistakable, and written differently in a URL."""

MARK = "Canary-"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A mounted Secret with every key that is read, and one that is not."""
    folder = tmp_path / "secret"
    folder.mkdir()
    for key, value in (CANARIES | {"PASSWORD": f"{MARK}not-read"}).items():
        (folder / key).write_text(f"{value}\n")
    return folder


def test_what_a_server_repeats_is_in_nothing_that_is_left(tmp_path: Path, secret: Path):
    """Log, outcome, card, manifest, evaluation, journal and workspace: neither a key, nor a part of one, nor a login."""
    with echoing() as (url, seen):
        judge = Judge(endpoint=Location(uri=f"{url}/v1", secret="s"), model="wise-1")
        evaluation = Evaluation(
            fraction=0.2, max_examples=20, max_answer_tokens=4, prompts=("red cat",),
            metrics=(Metric(name="exact", type="exactMatch"), Metric(name="judge", type="judge", judge=judge)),
        )  # fmt: skip
        tracker = Tracker(type="mlflow", location=Location(uri=url, secret="s"), project="tiny")
        data = reviews(tmp_path / "d.jsonl", rows=80)
        run = a_run(
            tmp_path,
            model=tiny_model(tmp_path / "m"),
            data=data,
            evaluation=evaluation,
            trackers=(tracker,),
            max_steps=4,
        )
        with container(run, tmp_path / "pod", FINETUNE_SECRETS=f"s={secret}") as pod:
            code, outcome = pod.wait()
    login = base64.b64encode(
        f"{CANARIES['MLFLOW_TRACKING_USERNAME']}:{CANARIES['MLFLOW_TRACKING_PASSWORD']}".encode()
    ).decode()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != secret]
    log = pod.log.read_text()

    assert (code, outcome.reason) == (0, "Published")
    assert seen == {f"Bearer {CANARIES['OPENAI_API_KEY']}", f"Basic {login}"}
    assert "could not be judged: HTTP 400" in log
    assert "tracker mlflow failed" in log
    assert "<OPENAI_API_KEY>" in log
    assert "<MLFLOW_TRACKING_PASSWORD>" in log
    assert {path.name for path in left} > {"log", "termination", "README.md", "finetune-manifest.json", "run.json"}
    assert [str(path) for path in left if MARK.encode() in path.read_bytes()] == []
    assert [str(path) for path in left if login[:16].encode() in path.read_bytes()] == []


@pytest.mark.parametrize("key", CONFIDENTIAL)
@pytest.mark.parametrize("written", ["{}", "%s"], ids=["plain", "in a URL"])
def test_every_spelling_of_a_secret_is_blotted_out(
    secret: Path, monkeypatch: pytest.MonkeyPatch, key: str, written: str
):
    """Libraries quote what they put into an address."""
    monkeypatch.setenv("FINETUNE_SECRETS", f"s={secret}")
    value = CANARIES[key]
    spelt = value if written == "{}" else value.replace("%", "%25").replace("/", "%2F").replace("+", "%2B")
    spelt = spelt if written == "{}" else spelt.replace("=", "%3D").replace("&", "%26")

    assert redacted(f"refused: {spelt}!") == f"refused: <{key}>!"


def test_parts_of_a_docker_configuration_are_blotted_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries repeat a login, or a password; nobody repeats the whole file."""
    login = base64.b64encode(b"me:a-long-password").decode()
    config = {
        "auths": {"one.example": {"auth": login}, "two.example": {"identitytoken": "a-long-token"}, "three.example": {}}
    }
    (tmp_path / ".dockerconfigjson").write_text(json.dumps(config))
    monkeypatch.setenv("FINETUNE_SECRETS", f"s={tmp_path}")

    hidden = "<.dockerconfigjson>"
    assert redacted(f"{login} a-long-password a-long-token") == f"{hidden} {hidden} {hidden}"
    (tmp_path / ".dockerconfigjson").write_text("no JSON")
    assert redacted("as it is") == "as it is"
