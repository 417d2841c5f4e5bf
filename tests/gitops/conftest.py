"""Fixtures of this tier: those of the tests on a real API server."""

from tests.cluster.conftest import api, free_port, standin, start_operator

__all__ = ["api", "free_port", "standin", "start_operator"]
