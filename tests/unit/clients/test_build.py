"""Which HTTP client the service sends its requests through."""

import pytest
from structlog.testing import capture_logs

from consumer.clients import build
from consumer.clients.build import open_clients
from consumer.clients.http import ConnectionClient, HttpClient, SessionClient
from consumer.ops.metrics import Metrics
from consumer.sandbox import Options, Sandbox
from consumer.settings import load


@pytest.mark.parametrize(
    ("missing", "client", "gauge"), [(None, ConnectionClient, 0), ("timeout of connect", SessionClient, 1)]
)
async def test_without_a_part_of_aiohttp_every_request_goes_through_client_session_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, missing: str | None, client: type[HttpClient], gauge: float
) -> None:
    used: list[type[HttpClient]] = []
    for kind in (ConnectionClient, SessionClient):

        def request(self: HttpClient, *arguments: object, _send: object = kind.request, **options: object) -> object:
            used.append(type(self))
            return _send(self, *arguments, **options)  # type: ignore[operator]

        monkeypatch.setattr(kind, "request", request)
    monkeypatch.setattr(build, "missing_parts", lambda: missing)
    metrics = Metrics()
    async with Sandbox(Options()) as sandbox:
        with capture_logs() as lines:
            async with open_clients(load(sandbox.environment), metrics) as clients:
                clients.set_share(1)
                await clients.sesamy.users(0, 10)
    assert used == [SessionClient, client]  # the token, and the request
    assert metrics.registry.get_sample_value("sesamy_mailmojo_http_fallback") == gauge
    warnings = [line for line in lines if line["event"] == "http.fallback"]
    assert len(warnings) == gauge
    assert all(missing in line["reason"] for line in warnings if missing)
