"""Certificates for what joins the control plane from outside: kubelets and kube-proxy, signed by an authority of ours.

The local cluster signs for its own processes only and keeps no key. Its API server is told to trust this one, too.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.ports import HOST
from finetune_operator.local.state import ClusterState, read_json

from tests.real_node.programs import run


@dataclass(frozen=True)
class Identities:
    """An authority and what it has signed, in the folder `joined` of a cluster."""

    state: ClusterState

    @property
    def folder(self) -> Path:
        """Where keys and certificates are."""
        return self.state.root / "joined"

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def trusted_clients(self) -> Path:
        """Certificates of both authorities."""
        return self.folder / "clients.crt"

    def prepare(self) -> None:
        """Make the authority, and the bundle with the cluster's own, which must be there."""
        self.folder.mkdir()
        self._key("ca")
        self._certificate("ca", "/CN=real-nodes", "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign")
        own = (self.state.pki / "ca.crt").read_text()
        self.trusted_clients.write_text(own + self.authority.read_text())

    def client(self, file: str, name: str, organization: str = "") -> Path:
        """Return the kubeconfig of an identity, making it at the first call."""
        path = self.folder / f"{file}.conf"
        if not path.exists():
            self._key(file)
            subject = (f"/O={organization}" if organization else "") + f"/CN={name}"
            self._certificate(file, subject, "extendedKeyUsage=clientAuth", signer="ca")
            path.write_text(json.dumps(self._kubeconfig(file)))
        return path

    def server(self, file: str, address: str) -> tuple[Path, Path]:
        """Return certificate and key of a server at an address."""
        if not (self.folder / f"{file}.crt").exists():
            self._key(file)
            names = f"subjectAltName=IP:{address},DNS:{file}"
            self._certificate(file, f"/CN={file}", names, "extendedKeyUsage=serverAuth", signer="ca")
        return self.folder / f"{file}.crt", self.folder / f"{file}.key"

    def _key(self, file: str) -> None:
        command = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")
        run(*command, self.folder / f"{file}.key")

    def _certificate(self, file: str, subject: str, *extensions: str, signer: str = "") -> None:
        by = ("-CA", self.folder / f"{signer}.crt", "-CAkey", self.folder / f"{signer}.key") if signer else ()
        added = [part for extension in extensions for part in ("-addext", extension)]
        into = ("-key", self.folder / f"{file}.key", "-out", self.folder / f"{file}.crt")
        run("openssl", "req", "-x509", "-new", "-sha256", "-days", "30", "-subj", subject, *into, *by, *added)

    def _kubeconfig(self, file: str) -> object:
        server = f"https://{HOST}:{read_json(self.state.settings)['apiserver']}"
        cluster = {"server": server, "certificate-authority": str(self.state.pki / "ca.crt")}
        user = {
            "client-certificate": str(self.folder / f"{file}.crt"),
            "client-key": str(self.folder / f"{file}.key"),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [{"name": "real", "cluster": cluster}],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": file}}],
        }
