"""What Pods of real nodes need of the network: addresses, a bridge, Services and names. Called by cluster.

Everything stays on this machine: the nodes' addresses are on the loopback interface, Pods live in network namespaces
behind one bridge.
"""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.ports import HOST
from finetune_operator.local.processes import recall, stop
from finetune_operator.local.state import ClusterState

from tests.real_node.identities import Identities
from tests.real_node.programs import run, spawn

ADDRESSES = "10.254.0"
API_ADDRESS = f"{ADDRESSES}.1"
"""Where Pods reach the API server; a Service may not have a loopback address as its endpoint."""
DNS_ADDRESS = f"{ADDRESSES}.53"
PODS = "10.244.0.0/16"
BRIDGE = "ftj0"
TABLE = "finetune"

MASQUERADE = f"""
table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
  chain after {{
    type nat hook postrouting priority srcnat;
    ip saddr {PODS} ip daddr != {PODS} masquerade
  }}
}}
"""

SYSCTLS = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}
"""The second: else the answer of a Service's Pod to a Pod on the same bridge bypasses kube-proxy's rules."""


@dataclass(frozen=True)
class Network:
    """Bridge, Services and DNS of one cluster; there is one at a time on a machine."""

    state: ClusterState
    programs: dict[str, Path]

    @property
    def cni(self) -> Path:
        """Folder of the CNI configuration."""
        return self.state.root / "cni"

    def prepare(self) -> None:
        """Set up addresses and forwarding; before the API server, which listens on one of them."""
        for address in (API_ADDRESS, DNS_ADDRESS):
            run("ip", "address", "replace", f"{address}/32", "dev", "lo")
        run("nft", "-f", "-", given=MASQUERADE)
        for key, value in SYSCTLS.items():
            run("sysctl", "-w", f"{key}={value}")
        self.cni.mkdir(parents=True, exist_ok=True)
        (self.cni / "10-finetune.conflist").write_text(json.dumps(self._cni_configuration()))

    def _cni_configuration(self) -> object:
        ranges = [[{"subnet": PODS}]]
        leases = str(self.state.root / "cni-leases")
        ipam = {"type": "host-local", "dataDir": leases, "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": ipam}
        return {"cniVersion": "1.0.0", "name": "finetune", "plugins": [bridge]}

    def start(self, identities: Identities, ports: dict[str, int]) -> None:
        """Start kube-proxy and CoreDNS on a control plane that is up."""
        kubeconfig = identities.client("kube-proxy", "system:kube-proxy")
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": "real-0",
            "clusterCIDR": PODS,
            "conntrack": {"maxPerCore": 0, "min": 0},
            "healthzBindAddress": f"{HOST}:{ports['proxy-health']}",
            "metricsBindAddress": f"{HOST}:{ports['proxy-metrics']}",
        }
        path = self.state.root / "kube-proxy.json"
        path.write_text(json.dumps(configuration))
        spawn(self.state, "kube-proxy", [str(self.programs["kube-proxy"]), f"--config={path}"])
        corefile = self.state.root / "Corefile"
        corefile.write_text(self._corefile(ports["dns-ready"]))
        spawn(self.state, "coredns", [str(self.programs["coredns"]), "-conf", str(corefile)])

    def _corefile(self, ready: int) -> str:
        return (
            ".:53 {\n"
            f"  bind {DNS_ADDRESS}\n  errors\n  ready {HOST}:{ready}\n"
            f"  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {self.state.kubeconfig}\n    ttl 1\n  }}\n"
            "  forward . /etc/resolv.conf\n}\n"
        )

    def stop(self) -> None:
        """Take away what was set up."""
        for name in ("coredns", "kube-proxy"):
            # before the API server, which would wait for their watches
            if found := recall(self.state.pids / name):
                stop(found, seconds=10)
        run(self.programs["kube-proxy"], f"--config={self.state.root / 'kube-proxy.json'}", "--cleanup", check=False)
        run("ip", "link", "delete", BRIDGE, check=False)
        run("nft", "delete", "table", "ip", TABLE, check=False)
        mine = re.findall(rf"inet ({re.escape(ADDRESSES)}\.\d+/32)", run("ip", "-4", "address", "show", "dev", "lo"))
        for address in mine:
            with contextlib.suppress(AssertionError):
                run("ip", "address", "delete", address, "dev", "lo")
