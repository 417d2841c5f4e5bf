"""What the process node changes in env values and args, and what it leaves alone."""

import pytest
from finetune_operator.local.node.addresses import Addresses, host_of, without_service_names
from finetune_operator.local.node.environment import expand
from finetune_operator.local.node.rewriting import with_folders

FOLDERS = {"/workspace": "/s/w", "/workspace/cache": "/s/c", "/etc/finetune/": "/s/f"}
GANG = {
    "metadata": {"name": "job-0-1", "namespace": "team"},
    "spec": {"hostname": "job-0-1", "subdomain": "job-0"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/workspace", "/s/w"),
        ("/workspace/", "/s/w/"),
        ("/workspace/data/x.json", "/s/w/data/x.json"),
        ("/workspace/cache/y", "/s/c/y"),
        ("--out=/workspace", "--out=/s/w"),
        ("A=/workspace:B=/etc/finetune", "A=/s/w:B=/s/f"),
        ("cat '/workspace' \"/workspace\"", "cat '/s/w' \"/s/w\""),
        ("file:///workspace/a", "file:///s/w/a"),
        ("/workspaces", "/workspaces"),
        ("/workspace-2", "/workspace-2"),
        ("/home/workspace", "/home/workspace"),
        ("~/workspace", "~/workspace"),
        ("s3://bucket/workspace", "s3://bucket/workspace"),
        ("/", "/"),
    ],
)
def test_mount_paths_are_replaced_at_path_boundaries(text: str, expected: str):
    """The longest mount path wins; a path that merely looks alike stays."""
    assert with_folders(text, FOLDERS) == expected


def test_nothing_is_replaced_without_mounts():
    """A Pod without volumes keeps its text."""
    assert with_folders("/workspace", {}) == "/workspace"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("job-0-0.job-0", "<job-0-0>"),
        ("job-0-0.job-0.team", "<job-0-0>"),
        ("job-0-0.job-0.team.svc", "<job-0-0>"),
        ("job-0-0.job-0.team.svc.cluster.local", "<job-0-0>"),
        ("job-0-0.job-0.team.svc.cluster.local.", "<job-0-0>"),
        ("tcp://job-0-1.job-0:29500,job-0-0.job-0:1", "tcp://<job-0-1>:29500,<job-0-0>:1"),
        ("job-0-0.job-0.other", "job-0-0.job-0.other"),
        ("job-0-0.job-01", "job-0-0.job-01"),
        ("job-0-0", "job-0-0"),
        ("x.job-0-0.job-0", "x.job-0-0.job-0"),
        ("job-0-0.job-0.example.com", "job-0-0.job-0.example.com"),
    ],
)
def test_names_of_the_own_service_become_addresses(text: str, expected: str):
    """All spellings that a cluster's DNS knows, and no other."""
    assert without_service_names(text, GANG, lambda host: f"<{host.split('/')[1].split('.')[0]}>") == expected


def test_a_pod_without_a_service_keeps_its_text():
    """Only headless Services are known."""
    pod = {"metadata": {"name": "p", "namespace": "team"}, "spec": {}}

    assert without_service_names("a.b", pod, lambda _: "no") == "a.b"
    assert host_of(pod) == "team/p"


def test_addresses_are_numbered_and_remembered(tmp_path):
    """A number is kept over a restart, given back, and given again."""
    addresses = Addresses(tmp_path / "addresses.json", 77)
    first = [addresses.loopback("n/a"), addresses.reported("n/a"), addresses.loopback("n/b"), addresses.loopback("n/a")]
    again = Addresses(tmp_path / "addresses.json", 77)
    again.release("n/a")

    assert first == ["127.77.0.1", "10.244.0.1", "127.77.0.2", "127.77.0.1"]
    assert (again.loopback("n/b"), again.loopback("n/c")) == ("127.77.0.2", "127.77.0.1")


def test_addresses_never_end_in_zero_or_255(tmp_path):
    """Such addresses mean a network, and some programs refuse them."""
    addresses = Addresses(tmp_path / "addresses.json", 77)
    given = [addresses.loopback(f"n/{number}") for number in range(300)]

    assert len(set(given)) == 300
    assert {given[253], given[254]} == {"127.77.0.254", "127.77.1.1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)x", "12x"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $", "$A $"),
        ("cost: $$5", "cost: $5"),
    ],
)
def test_references_are_expanded_as_a_kubelet_does(text: str, expected: str):
    """$(NAME) is replaced, $$ escapes, an unknown name stays."""
    assert expand(text, {"A": "1", "B": "2"}) == expected
