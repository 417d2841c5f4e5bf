"""Why no answer came from the API server, in words that say where to look. Pure. Called by api."""

import socket
import ssl

import aiohttp


def unreached(server: str, error: Exception, seconds: float) -> str:
    """Return what, where and what to do, for a request that got no answer."""
    return f"the API server {server} cannot be reached: {_why(error, seconds)}"


def _why(error: Exception, seconds: float) -> str:
    cause = getattr(error, "os_error", None) or error
    match cause:
        case socket.gaierror():
            return "its name is not known; check the address in the kubeconfig, and the network"
        case ConnectionRefusedError():
            return "nothing listens there; start the cluster, or name another with --kubeconfig or --context"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({cause.verify_message}); "
                "the kubeconfig's certificate-authority-data is of another cluster"
            )
        case ssl.SSLError():
            return f"it does not speak TLS ({cause.reason}); check address and port in the kubeconfig"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer; it may be starting or overloaded"
        case TimeoutError():
            return f"no answer within {seconds:g} s; check network, firewall and NetworkPolicies, or whether it is overloaded"
        case _:
            return str(error) or type(error).__name__
