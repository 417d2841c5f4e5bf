"""What a container's process sees: its environment and its command line. Used by worker; computes, touches nothing."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import ENV_ALLOW_FILE, ENV_DEVICE

from finetune_operator.local.node.fields import field_value
from finetune_operator.local.node.kube import Raw
from finetune_operator.local.node.sources import NotReady, Sources

REFERENCE = re.compile(r"\$(?:\$|\(([-._a-zA-Z0-9]+)\))")

PASSED_ON = (
    *("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""Variables of this machine that an image would bring along; nothing else of the user's environment reaches a Pod."""

CREATE_ERROR = "CreateContainerConfigError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start."""

    command: list[str]
    env: dict[str, str]
    folder: str


def launch(
    container: Raw, *, values: Mapping[str, str], node_env: Mapping[str, str], place: Callable[[str], str]
) -> Launch:
    """Return the process of a container. `place` turns mount paths and Service names into folders and addresses."""
    words = [*container.get("command", []), *container.get("args", [])]
    env = dict(node_env) | {name: place(value) for name, value in values.items()}
    python = str(Path(sys.executable).parent)
    env["PATH"] = f"{python}:{env['PATH']}"
    folder = place(container.get("workingDir", "")) or node_env["HOME"]
    return Launch(command=[place(expand(word, values)) for word in words], env=env, folder=folder)


def node_environment(home: Path) -> dict[str, str]:
    """Return what the node adds to every container; the Pod's own values win."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        # several processes share few cores here: without it each starts a thread per core
        "OMP_NUM_THREADS": "1",
        # gloo would look for the address of the host name, which need not exist on a laptop
        "GLOO_SOCKET_IFNAME": "lo",
        ENV_DEVICE: "cpu",
        ENV_ALLOW_FILE: "1",
    }


def declared(container: Raw, pod: Raw, sources: Sources) -> dict[str, str]:
    """Return the values that a container declares, references followed. Raises NotReady where one leads nowhere."""
    values: dict[str, str] = {}
    for entry in container.get("envFrom", []):
        values |= _from_all(entry, sources)
    for entry in container.get("env", []):
        if "valueFrom" not in entry:
            values[entry["name"]] = expand(entry.get("value", ""), values)
        elif (value := _referred(entry["valueFrom"], pod, sources)) is not None:
            values[entry["name"]] = value
    return values


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; $$ stands for $, an unknown name is left as it is."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return values.get(match[1], match[0])

    return REFERENCE.sub(replaced, text)


def _from_all(entry: Raw, sources: Sources) -> dict[str, str]:
    kind = "secret" if "secretRef" in entry else "configMap"
    reference = entry.get("secretRef") or entry["configMapRef"]
    data = sources.get(kind, reference["name"])
    if data is None:
        if reference.get("optional"):
            return {}
        raise NotReady(CREATE_ERROR, f'{kind.lower()} "{reference["name"]}" not found')
    return {entry.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()}


def _referred(source: Raw, pod: Raw, sources: Sources) -> str | None:
    """Return the value behind a reference; None where it is optional and absent."""
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"])
    kind = "secret" if "secretKeyRef" in source else "configMap"
    reference = source.get("secretKeyRef") or source["configMapKeyRef"]
    data = sources.get(kind, reference["name"])
    if data is not None and reference["key"] in data:
        return data[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    if data is None:
        raise NotReady(CREATE_ERROR, f'{kind.lower()} "{reference["name"]}" not found')
    full = f"{pod['metadata']['namespace']}/{reference['name']}"
    raise NotReady(CREATE_ERROR, f"couldn't find key {reference['key']} in {kind[0].upper() + kind[1:]} {full}")
