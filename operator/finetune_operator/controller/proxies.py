"""Which proxy the environment names for an address. Called by connection and, without the client library, by cli.kube_link."""

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def environment_proxy(address: str) -> str:
    """Return $HTTPS_PROXY or $HTTP_PROXY as kubectl reads it; empty for this machine and for what $NO_PROXY excepts."""
    url = urlsplit(address)
    host = url.hostname or ""
    if not host or _is_here(host) or proxy_bypass(url.netloc.rpartition("@")[2]) or _in_excepted_network(host):
        return ""
    proxy = getproxies().get(url.scheme, "")
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _in_excepted_network(host: str) -> bool:
    """Tell whether $NO_PROXY names a network such as 10.0.0.0/8 that holds the address; Python's own rule knows names only."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _networks(getproxies().get("no", "")))


def _networks(excepted: str) -> list[IPv4Network | IPv6Network]:
    found = []
    for name in excepted.split(","):
        with suppress(ValueError):
            found.append(ip_network(name.strip(), strict=False))
    return found
