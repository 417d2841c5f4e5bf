"""The operator. Read in the order the data flows: api, planning, manifests, lifecycle, controller; then local and cli."""

__version__ = "0.1.0"
"""The one source; tests/unit/test_version.py names what follows it."""
