"""Preflight as a process of its own: torch is not loaded, and no secret is in its log, its outcome or a file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from finetune_contract import Evaluation, Location, Model, Outcome, PreflightConfig, parse_outcome
from finetune_contract.wire import dumps

from tests.servers.hub import TOKEN, serving
from tests.trainer.data_inputs import chats


def in_a_pod(config: PreflightConfig, folder: Path, *command: str, **environment: str):
    """Run in a process of its own, as the Pod does."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(dumps(config))
    own = {
        "FINETUNE_RUN_CONFIG": str(folder / "run.json"),
        "FINETUNE_WORKSPACE": str(folder),
        "FINETUNE_TERMINATION_LOG": str(folder / "termination-log"),
        "FINETUNE_ALLOW_FILE": "1",
    }
    arguments = command or ("-m", "finetune_trainer", "preflight")
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_no_torch_in_the_process_and_the_outcome_in_the_message(job, tmp_path):
    """The preflight image has none; where torch is installed it must not be loaded either."""
    script = (
        "import sys\nfrom finetune_trainer.__main__ import main\ncode = main(['preflight'])\n"
        "print(sorted(name for name, module in sys.modules.items() if name.split('.')[0] == 'torch' and module))\nsys.exit(code)"
    )

    done = in_a_pod(job, tmp_path / "pod", "-c", script)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
    outcome = parse_outcome((tmp_path / "pod" / "termination-log").read_text())
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Prepared")


def test_everything_from_a_hub_and_a_bucket_and_no_secret_anywhere(job, tmp_path, s3_server):
    """Model and data from the hub, output in S3; tokens and keys are in no log, no outcome, no argv and no file."""
    keys = s3_server.environment | {"AWS_ACCESS_KEY_ID": s3_server.access_key}
    with serving() as hub:
        content = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
        commit = hub.add("org/base", content, private=True)
        rows = "".join(json.dumps(row) + "\n" for row in chats(60))
        hub.add(
            "org/rows", {"data/train-00000-of-00001.jsonl": rows, "data/test.jsonl": rows}, kind="dataset", private=True
        )
        secrets = {"hf": {"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint}, "s3": keys}
        for name, values in secrets.items():
            (tmp_path / name).mkdir()
            for key, value in values.items():
                (tmp_path / name / key).write_text(value)
        out = f"s3://{s3_server.bucket}/preflight/bot"
        config = replace(
            job,
            model=Model(location=Location(uri="hf://org/base", secret="hf")),
            datasets=(replace(job.datasets[0], location=Location(uri="hf://org/rows", secret="hf")),),
            output=Location(uri=out, secret="s3"),
            checkpoint=Location(uri=f"{out}/.checkpoints", secret="s3"),
        )
        mounts = {"FINETUNE_SECRETS": f"hf={tmp_path / 'hf'}:s3={tmp_path / 's3'}", "HF_HOME": str(tmp_path / "home")}
        done = in_a_pod(config, tmp_path / "pod", **mounts)
        broken = in_a_pod(
            replace(config, model=Model(location=Location(uri="hf://org/none", secret="hf"))),
            tmp_path / "pod2",
            **mounts,
        )

    text = (tmp_path / "pod" / "termination-log").read_text()
    outcome = parse_outcome(text)
    assert outcome is not None, done.stderr
    assert (done.returncode, outcome.reason, outcome.preflight.model_revision) == (0, "Prepared", commit)
    assert (outcome.preflight.examples + outcome.preflight.evaluation_examples) == 60
    assert s3_server.read("preflight/bot/finetune-run.json")
    assert (broken.returncode, "ModelNotFound" in broken.stdout) == (87, True)
    everything = [
        done.stdout,
        done.stderr,
        text,
        broken.stdout,
        broken.stderr,
        (tmp_path / "pod" / "run.json").read_text(),
    ]
    stored = [
        path
        for folder in (tmp_path / "pod", tmp_path / "home", s3_server.folder)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    everything += [path.read_bytes().decode(errors="replace") for path in stored]
    assert len(stored) > 8
    for secret in (TOKEN, s3_server.secret_key):
        assert not [part[:200] for part in everything if secret in part]


def test_an_unforeseen_error_is_reported_without_secrets(job, tmp_path):
    """Even an exception whose text holds the token."""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "HF_TOKEN").write_text(TOKEN)
    broken = replace(job, objective=f"boom {TOKEN}", name=TOKEN, evaluation=Evaluation(fraction=float("0.1")))
    script = (
        "import sys\nfrom finetune_trainer.preflight import __main__ as pod\nimport finetune_contract.wire as wire\n"
        f"def told(kind):\n    raise RuntimeError('token {TOKEN} slipped')\npod.told = told\nsys.exit(pod.main())"
    )

    done = in_a_pod(broken, tmp_path / "pod", "-c", script, FINETUNE_SECRETS=f"hf={tmp_path / 'hf'}")

    outcome = parse_outcome((tmp_path / "pod" / "termination-log").read_text())
    assert outcome == Outcome(
        outcome="Failed",
        reason="TrainerError",
        message="RuntimeError: token <HF_TOKEN> slipped; the Pod's log has the traceback",
    )
    assert (done.returncode, TOKEN in done.stdout + done.stderr) == (1, False)
