"""What the proxy of the tests knows of names and ports. Loaded by proxy.py in its own process."""

import os

from proxy.http.parser import HttpParser
from proxy.http.proxy import HttpProxyBasePlugin

from tests.servers.proxy import NAMES, WEB_PORT


class CorporateNames(HttpProxyBasePlugin):
    """Resolves the names of a company to this machine."""

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, tuple[str, int] | None]:
        """Return the address of a host, and from where to connect to it."""
        return ("127.0.0.1" if host.endswith(NAMES) else None), None

    def before_upstream_connection(self, request: HttpParser) -> HttpParser:
        """Lead what asks for 443 to where the server of the tests listens."""
        if request.port == 443:
            request.port = int(os.environ[WEB_PORT])
        return request
