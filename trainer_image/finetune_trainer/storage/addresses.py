"""What a location may say. Nothing outside the named claim, bucket or repository is reachable."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_CONFIG_MAPS, ENV_SECRETS, SECRET_KEYS, Location

from finetune_trainer.errors import UserError
from finetune_trainer.storage.store import Role, unauthorized

SCHEMES = ("hf", "s3", "gs", "az", "oci", "pvc", "configmap", "file", "https")
MOUNTED = {"pvc": (ENV_CLAIMS, "PersistentVolumeClaim"), "configmap": (ENV_CONFIG_MAPS, "ConfigMap")}
"""Where the environment says what is mounted, and what it is."""

SAFE = re.compile(r"[A-Za-z0-9._=+,~/*-]*", re.ASCII)

REFERENCE = re.compile(
    r"[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:\w[-.\w]{0,115}|@sha256:[0-9a-f]{64})",
    re.ASCII,
)
"""Of an artifact: host, repository, and tag or digest. A tag has 128 characters, of which those of a result's exports need 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A location taken apart: `s3://bucket/a/b` has authority `bucket` and path `a/b`."""

    scheme: str
    authority: str
    path: str
    uri: str


def parse(uri: str) -> Address:
    """Take a URI apart. Raises UserError(InvalidSpec) when it leaves what it may name."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in SCHEMES:
        raise _invalid(
            uri, "must start with hf://, s3://, gs://, az://, oci://, pvc://, configmap://, https:// or file://"
        )
    if scheme == "oci":
        return _artifact(uri, rest)
    if not SAFE.fullmatch(rest):
        raise _invalid(
            uri, "may contain only ASCII letters, digits and . _ = + , ~ / - *; credentials belong in a Secret"
        )
    authority, _, path = rest.partition("/")
    if scheme == "file":
        if authority or not path:
            raise _invalid(uri, "file:// needs an absolute path with three slashes, such as file:///data/train.jsonl")
    elif not authority or not path:
        raise _invalid(uri, f"{scheme}:// needs two parts, such as {scheme}://NAME/PATH")
    return Address(scheme=scheme, authority=authority, path=confined(path, uri), uri=uri)


def _artifact(uri: str, rest: str) -> Address:
    if not REFERENCE.fullmatch(rest):
        raise _invalid(
            uri,
            "must be oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:DIGEST, in lower case; credentials belong in a Secret",
        )
    host, _, path = rest.partition("/")
    return Address(scheme="oci", authority=host, path=path, uri=uri)


def confined(path: str, uri: str) -> str:
    """Return a relative path without its last slash. Raises UserError(InvalidSpec) when it could lead elsewhere."""
    parts = path.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path:
        raise _invalid(uri, f"the path {path!r} must not contain //, . or ..: write out the full path")
    return "/".join(parts)


def mounted_root(address: Address) -> Path:
    """Return the folder that stands for the claim (pvc), the ConfigMap or the machine (file). Raises UserError when there is none."""
    if address.scheme == "file":
        if os.environ.get(ENV_ALLOW_FILE) != "1":
            raise _invalid(address.uri, "file:// works on the local cluster only: use pvc://, s3:// or hf://")
        return Path("/")
    variable, what = MOUNTED[address.scheme]
    mounts = _pairs(os.environ.get(variable, ""))
    if address.authority not in mounts:
        known = ", ".join(sorted(mounts)) or "none"
        raise _invalid(address.uri, f"the {what} {address.authority} is not mounted in this Pod (mounted: {known})")
    return Path(mounts[address.authority])


def credentials(location: Location, role: Role) -> dict[str, str]:
    """Return the documented keys of the location's Secret; empty for ambient identity.

    Raises UserError when the Secret is named but none of its keys is there: the volume is optional, so a misspelt name would
    otherwise look like anonymous access. Its reason is one that preflight is run again for: the Secret may arrive later.
    """
    if not location.secret:
        return {}
    folder = Path(_pairs(os.environ.get(ENV_SECRETS, "")).get(location.secret, "/nonexistent"))
    found = {key: (folder / key).read_text().strip() for key in SECRET_KEYS if (folder / key).is_file()}
    if not found:
        raise unauthorized(
            role,
            f"the Secret {location.secret} for {location.uri} does not exist in this namespace or has none of the keys "
            f"{', '.join(SECRET_KEYS)}: create it or correct credentials.secretName",
        )
    return found


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(":") if "=" in pair)


def _invalid(uri: str, remedy: str) -> UserError:
    return UserError("InvalidSpec", f"{_without_credentials(uri)[:300]!r}: {remedy}")


def _without_credentials(uri: str) -> str:
    """A URI that somebody put a password into must not carry it into a message."""
    return re.sub(r"://[^/@]*@", "://***@", uri)
