"""Which HTTP client this run of the tests has: with `make test-fallback` there is none but `SessionClient`."""

import pytest

from consumer.clients.http import missing_parts

MISSING = missing_parts()

REASON = f"this run has no ConnectionClient: `make test-fallback` removes {MISSING} from aiohttp (tests/fallback)"

needs_connection_client = pytest.mark.skipif(MISSING is not None, reason=REASON)
"""Marks what asserts something of `ConnectionClient` itself."""
