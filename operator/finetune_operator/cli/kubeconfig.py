"""What a kubeconfig says: the server of a context and who we are there. Called by kube_link, jobs and complete.

The client library reads kubeconfigs, too, but takes longer to load than a command may take.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.errors import ClusterUnavailable

Raw = dict[str, Any]
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a Pod finds its token, the authority of the API server and the name of its namespace."""

ANOTHER = "set another one with --kubeconfig"


@dataclass(frozen=True, slots=True)
class Entry:
    """A named part of a kubeconfig, and the folder that its relative paths start from."""

    value: Raw
    folder: Path

    def path(self, key: str) -> str:
        """Return the file that a key names; empty where it names none."""
        named = str(self.value.get(key) or "")
        return str(self.folder / named) if named else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context of a kubeconfig, with what it refers to."""

    kubeconfig: str
    name: str
    namespace: str
    cluster: Entry
    user: Entry

    def broken(self, why: str) -> ClusterUnavailable:
        """Return the error for something here that cannot be used."""
        return ClusterUnavailable(f"kubeconfig {self.kubeconfig} cannot be used: context {self.name}: {why}; {ANOTHER}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """One file, or several joined with colons, of which the first that has a name wins."""

    title: str
    current: str
    contexts: dict[str, Entry]
    clusters: dict[str, Entry]
    users: dict[str, Entry]

    def context(self, name: str = "") -> Context:
        """Return a context; empty: the current one. Raises ClusterUnavailable that says what is missing."""
        chosen = name or self.current
        if not chosen:
            raise self._broken(f"it has no current-context; choose one of {', '.join(self.contexts)} with --context")
        if chosen not in self.contexts:
            raise self._broken(f"it has no context {chosen}, only {', '.join(self.contexts) or 'none at all'}")
        entry = self.contexts[chosen]
        cluster = self.clusters.get(str(entry.value.get("cluster") or ""))
        if cluster is None or not cluster.value.get("server"):
            raise self._broken(f"context {chosen} names no cluster with a server")
        return Context(
            kubeconfig=self.title,
            name=chosen,
            namespace=str(entry.value.get("namespace") or "default"),
            cluster=cluster,
            user=self.users.get(str(entry.value.get("user") or ""), Entry({}, entry.folder)),
        )

    def _broken(self, why: str) -> ClusterUnavailable:
        return ClusterUnavailable(f"kubeconfig {self.title} cannot be used: {why}; {ANOTHER}")


def context_of_pod(account: Path = ACCOUNT) -> Context:
    """Return the context of a Pod: the API server as its environment tells it, with its ServiceAccount."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    namespace = account / "namespace"
    return Context(
        kubeconfig="of this Pod",
        name="ServiceAccount",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        cluster=Entry({"server": server, "certificate-authority": "ca.crt"}, account),
        user=Entry({"tokenFile": "token"} if (account / "token").exists() else {}, account),
    )


def read_kubeconfig(title: str) -> Kubeconfig:
    """Read the files of a kubeconfig. Raises ClusterUnavailable saying which one is missing or broken."""
    paths = [Path(one).expanduser() for one in title.split(os.pathsep) if one]
    there = [path for path in paths if path.exists()]
    if not there:
        raise ClusterUnavailable(f"kubeconfig {title} not found: set --kubeconfig or $KUBECONFIG")
    files = [(_document(path), path.resolve().parent) for path in there]
    current = (str(document.get("current-context") or "") for document, _ in files)
    return Kubeconfig(
        title=title,
        current=next(filter(None, current), ""),
        contexts=_named(files, "contexts", "context"),
        clusters=_named(files, "clusters", "cluster"),
        users=_named(files, "users", "user"),
    )


def _document(path: Path) -> Raw:
    try:
        found = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterUnavailable(f"kubeconfig {path} cannot be read: {error.strerror}; {ANOTHER}") from error
    except ValueError as error:
        raise ClusterUnavailable(f"{path} is not a kubeconfig; {ANOTHER}") from error
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"{path} is not a kubeconfig; {ANOTHER}")
    return found


def _parsed(text: str) -> Any:
    """Parse JSON, or else YAML. Raises ValueError."""
    try:
        return json.loads(text)
    except ValueError:
        import yaml  # noqa: PLC0415  # a local cluster's kubeconfig is JSON
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}  # noqa: S506  # both are safe
    except yaml.YAMLError as error:
        raise ValueError from error


def _named(files: list[tuple[Raw, Path]], plural: str, singular: str) -> dict[str, Entry]:
    """Return the entries of a list by name. Raises ClusterUnavailable for a list that is none."""
    found: dict[str, Entry] = {}
    for document, folder in files:
        entries = document.get(plural) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) and "name" in one for one in entries):
            raise ClusterUnavailable(
                f"a file in {folder} is not a kubeconfig: {plural} is not a list of names; {ANOTHER}"
            )
        for one in entries:
            value = one.get(singular) or {}
            found.setdefault(str(one["name"]), Entry(value if isinstance(value, dict) else {}, folder))
    return found
