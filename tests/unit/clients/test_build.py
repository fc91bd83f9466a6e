"""Which HTTP client the service sends its requests through."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumer.clients import build
from consumer.clients.build import open_clients
from consumer.clients.http import ConnectionClient, HttpClient, SessionClient
from consumer.ops.metrics import Metrics
from consumer.sandbox import Options, Sandbox
from consumer.settings import load
from tests.http_clients import needs_connection_client


@pytest.mark.parametrize(
    ("missing", "client", "gauge"),
    [
        pytest.param(None, ConnectionClient, 0, marks=needs_connection_client),
        ("timeout of connect", SessionClient, 1),
    ],
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
                await clients.account_fields.look()
    assert used[:2] == [SessionClient, client]  # the token, and the request
    assert set(used[2:]) == {SessionClient}  # the account fields
    assert metrics.registry.get_sample_value("sesamy_mailmojo_http_fallback") == gauge
    warnings = [line for line in lines if line["event"] == "http.fallback"]
    assert len(warnings) == gauge
    assert all(missing in line["reason"] for line in warnings if missing)


def test_a_process_of_the_fallback_run_has_no_connection_client() -> None:
    """As `make test-fallback` starts the tests and whatever they start."""
    fallback = Path(__file__).parents[2] / "fallback"
    code = "from consumer.clients.http import missing_parts; print(missing_parts())"
    environment = {**os.environ, "PYTHONPATH": str(fallback)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert ran.stdout == "ClientRequest\n"
