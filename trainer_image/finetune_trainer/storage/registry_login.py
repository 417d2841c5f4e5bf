"""Who we are to a registry: the keys of a Secret, or its .dockerconfigjson; a token where the registry asks for one. Called by registry."""

import base64
import binascii
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

DOCKER_CONFIG = ".dockerconfigjson"
USERNAME, PASSWORD, PLAIN_HTTP = "OCI_USERNAME", "OCI_PASSWORD", "OCI_PLAIN_HTTP"
PARAMETER = re.compile(r'(\w+)="([^"]*)"')
LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3})(:\d+)?")
DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User and password; or a token that is exchanged for others. All empty: nobody."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


def login_of(host: str, keys: Mapping[str, str]) -> Login:
    """Return the login for a registry. Raises ValueError where the Secret cannot be read, or holds none for it."""
    if keys.get(USERNAME) or keys.get(PASSWORD):
        return Login(username=keys.get(USERNAME, ""), password=keys.get(PASSWORD, ""))
    if DOCKER_CONFIG not in keys:
        return Login()
    try:
        auths = json.loads(keys[DOCKER_CONFIG])["auths"]
        entry = next((auths[name] for name in auths if _same_host(name, host)), None)
        found = None if entry is None else _login(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{DOCKER_CONFIG} of its Secret is not a Docker configuration") from error
    if found is None:
        raise ValueError(
            f"{DOCKER_CONFIG} of its Secret has no login for {host}, only for {', '.join(sorted(auths)) or 'none'}"
        )
    return found


def _same_host(name: str, host: str) -> bool:
    """Entries are hosts or URLs; Docker's own registry has several names."""
    named = urlsplit(name if "://" in name else f"//{name}").netloc
    return named == host or (named in DOCKER_HUB and host in DOCKER_HUB)


def _login(entry: Mapping[str, str]) -> Login:
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth") and not password:
        try:
            username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("auth is not base64") from error
    return Login(username=username, password=password, identity_token=entry.get("identitytoken", ""))


def served_by(host: str) -> str:
    """Return the host that answers for a registry: Docker's own is not at its name."""
    return "registry-1.docker.io" if host in DOCKER_HUB else host


def scheme_of(host: str, keys: Mapping[str, str]) -> str:
    """Return http for this machine, as Docker does, and where the Secret says so. Raises ValueError for another word."""
    said = keys.get(PLAIN_HTTP, "").lower()
    if said not in ("", "true", "false"):
        raise ValueError(f"{PLAIN_HTTP} of its Secret must be true or false")
    return "http" if said == "true" or (not said and LOOPBACK.fullmatch(host)) else "https"


class RegistryAuth(httpx2.Auth):
    """Answers a registry's challenge: with the password, or with the token that its token server gives for it."""

    def __init__(self, host: str, login: Login, *, plain: bool) -> None:
        self._host, self._login, self._plain, self._header = host, login, plain, ""

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send the request; if it is challenged, once more with what the registry asks for. Other hosts are told nothing."""
        ours = request.url.netloc.decode() == self._host
        if self._header and ours:
            request.headers["Authorization"] = self._header
        response = yield request
        if response.status_code != 401 or not ours:
            return
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        given = dict(PARAMETER.findall(rest))
        if kind.lower() == "bearer" and self._may_ask(given.get("realm", "")):
            answer = yield self._token_request(given)
            answer.read()
            self._header = _bearer(answer)
        elif kind.lower() == "basic" and self._login.password:
            self._header = _basic(self._login)
        else:
            return
        if self._header:
            request.headers["Authorization"] = self._header
            yield request

    def _may_ask(self, realm: str) -> bool:
        """A registry that is spoken to in secret must not have the password sent in clear text."""
        return realm.startswith("https://") or (self._plain and realm.startswith("http://"))

    def _token_request(self, given: dict[str, str]) -> httpx2.Request:
        realm = given.pop("realm")
        asked: dict[str, str] = {name: given[name] for name in ("service", "scope") if name in given}
        if self._login.identity_token:
            form = asked | {
                "grant_type": "refresh_token",
                "refresh_token": self._login.identity_token,
                "client_id": "finetune",
            }
            return httpx2.Request("POST", realm, data=form)
        headers = {"Authorization": _basic(self._login)} if self._login.password else {}
        return httpx2.Request("GET", httpx2.URL(realm).copy_merge_params(list(asked.items())), headers=headers)


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def _bearer(answer: httpx2.Response) -> str:
    if not answer.is_success:
        return ""
    try:
        said = answer.json()
        token = said.get("token") or said.get("access_token") or ""
    except (ValueError, AttributeError):
        return ""
    return f"Bearer {token}" if token else ""
