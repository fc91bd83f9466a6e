"""What tests of the clients share."""

import pytest

from consumer.clients.http import ConnectionClient, HttpClient, SessionClient
from tests.http_clients import needs_connection_client
from tests.unit.clients import scripted


@pytest.fixture(
    params=[pytest.param(ConnectionClient, marks=needs_connection_client), SessionClient], ids=["connection", "session"]
)
def both_clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[HttpClient]:
    """Run a test with each of the HTTP clients: `scripted` makes that one."""
    client: type[HttpClient] = request.param
    monkeypatch.setattr(scripted, "client", client)
    return client
