"""Which proxy the environment names for an address. Called by connection and, without the client library, by cli.kube_link."""

import re
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from finetune_operator.errors import ClusterUnavailable


def environment_proxy(address: str) -> str:
    """Return $HTTPS_PROXY or $HTTP_PROXY as kubectl reads it; empty for this machine and for what $NO_PROXY excepts."""
    url = urlsplit(address)
    host = url.hostname or ""
    if not host or _is_here(host) or proxy_bypass(url.netloc.rpartition("@")[2]) or _in_excepted_network(host):
        return ""
    proxy = getproxies().get(url.scheme, "")
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def checked_proxy(proxy: str) -> str:
    """Return the address of a proxy. Raises ClusterUnavailable where it is not that of an HTTP proxy; a password is not repeated."""
    try:
        way = urlsplit(proxy)
        usable = not proxy or (way.scheme in ("http", "https") and way.hostname and (way.port is None or way.port > 0))
    except ValueError:
        usable = False
    if not usable:
        raise ClusterUnavailable(
            f"the proxy {re.sub('//.*@', '//', proxy)} cannot be used: it must be http://HOST:PORT or https://HOST:PORT, not SOCKS. "
            "Set another proxy-url in the kubeconfig or another $HTTPS_PROXY, or name the API server in $NO_PROXY"
        )
    return proxy


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
