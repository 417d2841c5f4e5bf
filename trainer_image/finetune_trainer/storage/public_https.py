"""Requests to public https:// addresses only: no private, loopback or link-local ones, not by a redirect or DNS trick either.

Behind a proxy, names that are not known here are resolved by it: what they may lead to is for whoever runs the proxy to say.
"""

import http.client
import ipaddress
import socket
import ssl
from base64 import b64encode
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

TIMEOUT_SECONDS = 60
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as a network without IPv4 writes them."""


class NotPublic(Exception):
    """The address leads to where a job must not look; the message says where."""


class Answer:
    """A response, and the connection that belongs to it. Use as a context manager."""

    def __init__(self, connection: http.client.HTTPSConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self.response = response

    def close(self) -> None:
        """Close the connection."""
        self.response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def opened(method: str, url: str, *, private: bool = False) -> Answer:
    """Send a request and follow its redirects, each of which is checked as the first address is.

    Raises NotPublic, OSError or http.client.HTTPException.
    """
    for _ in range(MOST_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise NotPublic(f"it redirects to {parts.scheme}://, and only https:// is allowed")
        connection = connected(parts.hostname, parts.port or 443, private=private)
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        target = response.getheader("Location")
        if response.status not in REDIRECTS or not target:
            return Answer(connection, response)
        response.close()
        connection.close()
        url = urljoin(url, target)
    raise NotPublic(f"it redirects more than {MOST_REDIRECTS} times")


def connected(host: str, port: int, *, private: bool) -> http.client.HTTPSConnection:
    """Return a connection to a host: direct, or through the proxy that the environment names."""
    proxy = None if proxy_bypass(host) else getproxies().get("https")
    if not proxy:
        return Connection(host, port, private=private)
    with suppress(socket.gaierror):  # a network that knows its own names only
        checked_address(host, port, private=private)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    tunnel = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 3128, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
    )
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    headers = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    tunnel.set_tunnel(host, port, headers)
    return tunnel


class Connection(http.client.HTTPSConnection):
    """Connects to the very address that was checked: a name that is asked for twice may answer differently."""

    def __init__(self, host: str, port: int, *, private: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT_SECONDS)
        self._private = private
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        """Resolve the name, check what it stands for, and connect there."""
        address = checked_address(self.host, self.port, private=self._private)
        plain = socket.create_connection((address, self.port), TIMEOUT_SECONDS)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def checked_address(host: str, port: int, *, private: bool) -> str:
    """Return the first address of a host. Raises NotPublic unless all of them are public."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not private and not is_public(address):
            raise NotPublic(f"{host} has the address {address}, which is not a public one")
    return found[0]


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet's; an IPv4 address inside an IPv6 one is taken out first."""
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in NAT64 else None
        inner = parsed.ipv4_mapped or parsed.sixtofour or translated or (parsed.teredo or (None, None))[1]
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return parsed.is_global and not parsed.is_multicast
