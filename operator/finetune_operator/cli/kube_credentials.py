"""Who we are at an API server: a bearer token, a password or a client certificate. Called by kube_link."""

import asyncio
import base64
import binascii
import json
import os
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from finetune_operator.cli.kubeconfig import Context, Raw

EXEC_INFO = "KUBERNETES_EXEC_INFO"
EXTENSION = "client.authentication.k8s.io/exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request shows, and what a connection does."""

    authorization: str = ""
    """The header; empty where a certificate says who we are."""
    certificate: str = ""
    """PEM of the client certificate and of its key; empty without one."""
    key: str = ""


async def credentials_of(context: Context) -> Credentials:
    """Return who we are. Runs the command that a kubeconfig names for it, as kubectl does. Raises ClusterUnavailable."""
    user = context.user.value
    certificate, key = _pem(context, "client-certificate"), _pem(context, "client-key")
    if "exec" in user:
        status = await _asked(context, user["exec"])
        return Credentials(
            authorization=_bearer(context, status.get("token")),
            certificate=str(status.get("clientCertificateData") or certificate),
            key=str(status.get("clientKeyData") or key),
        )
    return Credentials(authorization=_authorization(context), certificate=certificate, key=key)


def _authorization(context: Context) -> str:
    user = context.user.value
    path = context.user.path("tokenFile")
    if bearer := _bearer(context, user.get("token") or (_text(context, path) if path else "")):
        return bearer
    if "username" in user and "password" in user:
        return "Basic " + base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
    return ""


def _bearer(context: Context, token: Any) -> str:
    """Return the header that shows a token; empty without one."""
    shown = str(token or "").strip()
    if not shown.isascii() or len(shown.split()) > 1:
        raise context.broken("its token has characters that a token cannot have")
    return f"Bearer {shown}" if shown else ""


def trust_of(context: Context, shown: Credentials) -> ssl.SSLContext:
    """Return whom a connection trusts, and the certificate that it shows. Raises ClusterUnavailable."""
    cluster = context.cluster
    data, path = cluster.value.get("certificate-authority-data"), cluster.path("certificate-authority")
    try:
        trust = ssl.create_default_context(
            cadata=_decoded(context, data) if data else None, cafile=None if data else path or None
        )
        if shown.certificate:
            _show(trust, shown)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise context.broken(f"its certificates cannot be used ({error})") from error
    # many clusters' own authorities lack an extension that newer Pythons ask for; kubectl does not
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cluster.value.get("insecure-skip-tls-verify"):
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust


def _show(trust: ssl.SSLContext, shown: Credentials) -> None:
    """Load a certificate, which the ssl module takes from a file only; nobody else may read that file."""
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{shown.certificate}\n{shown.key}\n")
        file.flush()
        trust.load_cert_chain(file.name)


def _pem(context: Context, key: str) -> str:
    data, path = context.user.value.get(f"{key}-data"), context.user.path(key)
    if data:
        return _decoded(context, data)
    return _text(context, path) if path else ""


def _decoded(context: Context, data: Any) -> str:
    try:
        return base64.b64decode(str(data)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise context.broken("its certificate data is not base64") from error


def _text(context: Context, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise context.broken(f"{path}: {error.strerror}") from error


async def _asked(context: Context, how: Raw) -> Raw:
    """Run the command of a kubeconfig and return the status of the ExecCredential that it prints."""
    name = str(how.get("command") or "")
    command = str(context.user.folder / name) if "/" in name else name
    interactive = how.get("interactiveMode") != "Never" and sys.stdin is not None and sys.stdin.isatty()
    spec: Raw = {"interactive": interactive} | ({"cluster": _cluster(context)} if how.get("provideClusterInfo") else {})
    info = {"apiVersion": how.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    named = {str(each["name"]): str(each["value"]) for each in how.get("env") or ()}
    try:
        process = await asyncio.create_subprocess_exec(
            command, *map(str, how.get("args") or ()),
            env=os.environ | named | {EXEC_INFO: json.dumps(info)},
            stdin=None if interactive else asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        hint = " ".join(str(how.get("installHint") or "").split())
        raise context.broken(
            f"its login command {name} cannot be run: {error.strerror}{f'. {hint}' if hint else ''}"
        ) from error
    output, _ = await process.communicate()
    if process.returncode:
        raise context.broken(f"its login command {name} failed with exit code {process.returncode}")
    return _status(context, name, output)


def _status(context: Context, name: str, output: bytes) -> Raw:
    try:
        status = json.loads(output)["status"]
        given = bool(status.get("token") or (status.get("clientCertificateData") and status.get("clientKeyData")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise context.broken(f"its login command {name} did not print an ExecCredential with a status") from error
    if not given:
        raise context.broken(f"its login command {name} returned neither a token nor a certificate with its key")
    return status  # type: ignore[no-any-return]


def _cluster(context: Context) -> Raw:
    """Return what a login command is told about the cluster."""
    cluster = context.cluster.value
    kept = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
    extensions = {each.get("name"): each.get("extension") for each in cluster.get("extensions") or ()}
    return {key: cluster[key] for key in kept if key in cluster} | {"config": extensions.get(EXTENSION)}
