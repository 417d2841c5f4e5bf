"""Why no answer came from the API server, in words that say where to look. Pure. Called by whatever sends requests."""

import socket
import ssl
from urllib.parse import urlsplit


def unreached(server: str, error: Exception, seconds: float, *, proxy: str = "") -> str:
    """Return what, where and what to do, for a request that got no answer; `proxy` is between, empty without one."""
    cause = getattr(error, "os_error", None) or error
    if proxy and isinstance(cause, socket.gaierror | ConnectionRefusedError):
        way = urlsplit(proxy)
        why = "connection refused" if isinstance(cause, ConnectionRefusedError) else "its host name does not resolve"
        return (
            f"cannot reach the proxy {way.hostname}:{way.port or 80} in front of the API server at {server}: {why}. "
            "Check proxy-url in the kubeconfig and $HTTPS_PROXY; $NO_PROXY lists what is reached without it"
        )
    return f"cannot reach the API server at {server}: {_why(cause, seconds)}"


def _why(error: Exception, seconds: float) -> str:
    match error:
        case socket.gaierror():
            return "the host name does not resolve. Check the address in the kubeconfig and your network"
        case ConnectionRefusedError():
            return "connection refused. Start the cluster, or choose another one with --kubeconfig or --context"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}). "
                "Check certificate-authority-data in the kubeconfig: it may belong to another cluster"
            )
        case ssl.SSLError():
            return f"it does not use TLS ({error.reason}). Check the address and port in the kubeconfig"
        case EOFError():
            return "it closed the connection without a response. It may be starting or overloaded"
        case TimeoutError():
            return f"no response within {seconds:g} s. Check the network, firewalls, NetworkPolicies and the load of the API server"
        case _:
            return str(error) or type(error).__name__
