"""NetworkPolicies are enforced: the first packet of whatever a Pod begins waits until kube-network-policies has judged it.

The nodes share a network namespace, so one enforcer is enough. The kernel hands it the packets by a rule of iptables, whose
queue kernels have more often than that of nftables. While no enforcer runs, such packets are dropped. Called by cluster.
"""

from pathlib import Path

from finetune_operator.local.processes import recall, stop
from finetune_operator.local.state import ClusterState

from tests.cluster.client import eventually
from tests.real_node.network import PODS
from tests.real_node.programs import POLICIES, QUEUE, TO_QUEUE, run, spawn

LISTENERS = Path("/proc/net/netfilter/nfnetlink_queue")
"""A line per queue that a program has taken."""
MANGLE = ("iptables", "--wait", "--table", "mangle")
HOOKS = ("POSTROUTING", "INPUT")
"""What goes to another Pod or leaves the machine, and what goes to the machine itself: API server, DNS, an S3 server."""


def start_policies(state: ClusterState, program: Path) -> None:
    """Start the enforcer on a control plane that is up, then send it what Pods begin."""
    name = POLICIES.name
    spawn(state, name, [str(program), f"--kubeconfig={state.kubeconfig}", f"--queue={QUEUE}"])
    eventually(_is_listening, "the enforcer of NetworkPolicies listens", 60)
    for hook in HOOKS:
        run(*_rule("--append", hook))


def stop_policies(state: ClusterState) -> None:
    """Take the rules away, then the enforcer and the empty tables that it and iptables make."""
    for hook in HOOKS:
        run(*_rule("--delete", hook), check=False)
    if found := recall(state.pids / POLICIES.name):
        stop(found, seconds=10)
    run("nft", "delete", "table", "inet", "kube-network-policies", check=False)
    left = run(*MANGLE, "--list-rules", check=False).splitlines()
    if all(line.startswith("-P ") and line.endswith(" ACCEPT") for line in left):
        run("nft", "delete", "table", "ip", "mangle", check=False)


def _is_listening() -> bool:
    """Whether a program has taken the queue."""
    return any(line.split()[0] == str(QUEUE) for line in LISTENERS.read_text().splitlines())


def _rule(action: str, hook: str) -> tuple[str, ...]:
    """Return a rule for what Pods begin. The bridge's address is one of theirs: with it the kubelets probe."""
    from_pods = ("--source", PODS, "--match", "addrtype", "!", "--src-type", "LOCAL")
    return (*MANGLE, action, hook, *from_pods, "--match", "conntrack", "--ctstate", "NEW", *TO_QUEUE)
