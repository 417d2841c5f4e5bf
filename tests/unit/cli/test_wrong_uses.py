"""A sweep of wrong uses: whatever a user types, the answer is a sentence and a documented exit code, never a traceback."""

import sys
from pathlib import Path

import pytest
from finetune_operator import cli
from finetune_operator.cli.app import COMMANDS, load

ON_JOBS = (
    "compare x y",
    "report x",
    "watch",
    "pools discover",
    "get x",
    "watch x",
    "wait x",
    "logs x",
    "suspend x",
    "resume x",
    "rerun x",
    "delete x",
    "diff x y",
    "calibrate",
)
FILES = {
    "empty.yaml": b"",
    "binary.yaml": bytes(range(256)),
    "list.yaml": b"- a\n- b\n",
    "broken.yaml": b"a: [b\n",
    "other.yaml": b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
    "nothing.yaml": b"apiVersion: finetune.dev/v1alpha1\nkind: FineTuneJob\n",
    "spec.yaml": b"apiVersion: finetune.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: a}\nspec: 7\n",
    "deep.yaml": b"[" * 3000,
}
KUBECONFIGS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "list": b"- a\n",
    "text": b"hello\n",
    "half": b"apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\ncurrent-context: gone\n",
    "refused": b"""apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: t}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
""",
    "plugin": b"""apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin}}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
""",
    "address": b"""apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "::::"}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
""",
}
WRONG = [
    "import", "import gone.yaml", "import .", "compare", "compare a", "compare a a", "compare a b --plot x.png", "report", "watch x -A",
    "nonsense", "--nonsense", "get --nonsense", "get a b c", "get x -A", "get -o nonsense", "plan",
    "plan --examples 0", "plan --examples x", "plan --model gone", "plan --model gone.json", "plan -f gone.yaml",
    "plan -f .", "plan --model Llama-3.1-8B --pools gone", "plan --model Llama-3.1-8B --pools .",
    "plan --model Llama-3.1-8B -o wide", "models -o wide", "gpus -o x", "vram", "vram --scenarios gone", "data",
    "data preview", "data preview gone.csv --model x", "submit", "submit gone.yaml", "submit .", "diff a",
    "diff a.yaml b.yaml", "rerun", "rerun x --set a", "pools", "pools discover --nodes gone",
    "pools discover --price x", "calibrate -f gone", "local", "local status", "local kubeconfig",
    "local kubectl get pods", "local up --name NAME!", "local node", "init", "init gone.csv",
    "init . --model gone", "wait x --timeout -1",
    "wait x --timeout nan", "merge a b --to c --method dare --density nan", "logs x --attempt 0", "logs x --claim a",
    "generate --nonsense",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    for name, content in KUBECONFIGS.items():
        (tmp_path / f"{name}.conf").write_bytes(content)
    return tmp_path


def end_of(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit code of a command line and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["finetune", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0 if code is None else 1, capsys.readouterr().err


def assert_answered(code: int, said: str) -> None:
    """A documented exit code, and a sentence that is not a traceback and names no Python class."""
    assert code in (1, 2, 4), said
    assert said.strip(), "no word on stderr"
    for leak in (
        "Traceback",
        "internal error",
        "Error(",
        "Exception",
        "object at 0x",
        "errno",
        "KeyError",
        "site-packages",
    ):
        assert leak not in said


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_answered(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Unknown commands and options, missing files, values that are out of range, clusters that are not there."""
    assert_answered(*end_of(line, monkeypatch, capsys))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "line", ["plan -f", "submit", "import", "data preview -f", "calibrate -f", "pools discover --nodes"]
)
def test_a_file_that_is_something_else_is_answered(
    line: str, file: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Empty, binary, a list, broken, of another kind, without a spec, nested a thousand times."""
    assert_answered(*end_of(f"{line} {file}", monkeypatch, capsys))


@pytest.mark.parametrize("config", [*KUBECONFIGS, "gone"])
@pytest.mark.parametrize("line", ON_JOBS)
def test_a_kubeconfig_that_leads_nowhere_is_answered(
    line: str, config: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Missing, empty, broken, of a server that is not there, with a login program that is not installed."""
    assert_answered(*end_of(f"{line} --kubeconfig {config}.conf", monkeypatch, capsys))


@pytest.mark.parametrize("line", ON_JOBS)
def test_without_any_cluster_the_way_to_one_is_named(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Neither a kubeconfig nor a local cluster."""
    code, said = end_of(line, monkeypatch, capsys)

    assert_answered(code, said)
    assert said.endswith(
        "no kubeconfig, and no local cluster is running: start one with `finetune local up --operator`, or set --kubeconfig or "
        "$KUBECONFIG\n"
    )


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "generate"])
def test_every_command_has_a_short_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """-h is --help, of groups and their commands, too."""
    for path in (name, *(f"{name} {child}" for child in getattr(load(name), "commands", {}) if child != "kubectl")):
        printed = []
        for option in ("-h", "--help"):
            monkeypatch.setattr(sys, "argv", ["finetune", *path.split(), option])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] != ""


def test_a_bug_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """With how to see more."""

    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("finetune_operator.cli.app.app", broken)

    assert end_of("models", monkeypatch, capsys) == (
        70,
        "finetune: internal error (RuntimeError: boom). This is a bug: please report it with the command and the output of the same "
        "command with FINETUNE_TRACEBACK=1\n",
    )
