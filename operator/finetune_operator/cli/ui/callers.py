"""Who asks the page: a bearer token in the Authorization header, from the page's own sign-in or from a proxy. Called by server.

The server keeps no session: the API server judges the token with each request, and nothing else here has rights.
"""

from starlette.requests import Request


def token_of(request: Request) -> str:
    """Return the token of a request; empty without one that could be a token."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    token = shown.strip()
    return token if scheme.lower() == "bearer" and token.isascii() and token.isprintable() and " " not in token else ""
