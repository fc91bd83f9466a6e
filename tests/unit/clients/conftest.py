"""What tests of the clients share."""

import pytest

from consumer.clients.http import ConnectionClient, HttpClient, SessionClient
from consumer.clients.wire import Wire
from tests.http_clients import needs_connection_client


@pytest.fixture(
    params=[pytest.param(ConnectionClient, marks=needs_connection_client), SessionClient], ids=["connection", "session"]
)
def both_clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[HttpClient]:
    """Run a test with each of the HTTP clients, which every `Wire` sends through that is not told otherwise."""
    client: type[HttpClient] = request.param
    defaults = Wire.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "client", client)
    return client
