"""The command lines of the four control plane processes. Called by control_plane; computes, starts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_operator.local.certificates import SERVICE_ADDRESS
from finetune_operator.local.ports import HOST, Settings
from finetune_operator.local.state import ClusterState

AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a start may ask for beside the defaults."""

    audit: bool = False
    """Write every request to log/audit.log: who, what, when, with which answer."""
    apiserver_flags: tuple[str, ...] = ()
    """More flags for the API server, such as --feature-gates=X=true; they win over ours."""
    controller_manager_flags: tuple[str, ...] = ()
    """More flags for the controller manager, such as --node-monitor-grace-period=15s."""
    node: bool = True
    """Run the process node, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process of the control plane, and how to see that it is ready."""

    name: str
    flags: Sequence[str]
    health: str
    """URL that answers 200."""


def etcd(state: ClusterState, ports: Settings) -> Component:
    """Store of the API server; a crash of the machine may lose seconds, which a throw-away cluster can bear."""
    client, peer = f"http://{HOST}:{ports.etcd}", f"http://{HOST}:{ports.etcd_peer}"
    flags = (
        "--name=one",
        f"--data-dir={state.root / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=one={peer}",
    )
    return Component(name="etcd", flags=flags, health=f"{client}/readyz")


def apiserver(state: ClusterState, ports: Settings, options: Options) -> Component:
    """Serve the API, RBAC on."""
    pki = state.pki
    flags = (
        f"--etcd-servers=http://{HOST}:{ports.etcd}",
        f"--bind-address={HOST}",
        f"--secure-port={ports.apiserver}",
        f"--advertise-address={HOST}",
        # a loopback address is not a legal endpoint of the Service `kubernetes`
        "--endpoint-reconciler-type=none",
        f"--cert-dir={state.root / 'generated'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICE_ADDRESS.rsplit('.', 1)[0]}.0/16",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        *(_audit(state) if options.audit else ()),
        *options.apiserver_flags,
    )
    return Component(name="kube-apiserver", flags=flags, health=f"https://{HOST}:{ports.apiserver}/readyz")


def controller_manager(state: ClusterState, ports: Settings, options: Options) -> Component:
    """Garbage collection, quota, ServiceAccounts, volumes, node lifecycle."""
    flags = (
        *_client(state, "controller-manager"),
        f"--secure-port={ports.controller_manager}",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={state.pki / 'sa.key'}",
        f"--root-ca-file={state.pki / 'ca.crt'}",
        # at the default of 20 requests per second the first ServiceAccount comes five seconds later
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        # otherwise it makes a folder under /usr/libexec
        f"--flex-volume-plugin-dir={state.root / 'flexvolume'}",
        *options.controller_manager_flags,
    )
    health = f"https://{HOST}:{ports.controller_manager}/healthz"
    return Component(name="kube-controller-manager", flags=flags, health=health)


def scheduler(state: ClusterState, ports: Settings) -> Component:
    """Bind Pods; the default limit would cap it at 50 Pods per second."""
    flags = (
        *_client(state, "scheduler"),
        f"--secure-port={ports.scheduler}",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    return Component(name="kube-scheduler", flags=flags, health=f"https://{HOST}:{ports.scheduler}/readyz")


def _client(state: ClusterState, identity: str) -> tuple[str, ...]:
    kubeconfig = state.root / f"{identity}.conf"
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={HOST}",
        f"--cert-dir={state.root / 'generated'}",
        "--leader-elect=false",
    )


def _audit(state: ClusterState) -> tuple[str, ...]:
    return (f"--audit-policy-file={state.root / 'audit-policy.yaml'}", f"--audit-log-path={state.logs / 'audit.log'}")
