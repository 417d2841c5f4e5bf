"""Fixtures of this tier: those of the tests on a real API server."""

from tests.cluster.conftest import api, standin, start_operator

__all__ = ["api", "standin", "start_operator"]
