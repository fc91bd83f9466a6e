"""The admin port: probes, metrics, status and a page, for Kubernetes, Prometheus and people (`contract.md`)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web

from consumer.failure import Failure
from consumer.ops.live import Events, Page
from consumer.ops.metrics import Metrics

_log = structlog.get_logger("admin")


class Health(Protocol):
    """What the probes ask the service."""

    def alive(self) -> bool:
        """Return whether the loop and the polling and committing tasks tick."""

    def unready(self) -> Mapping[str, str]:
        """Return why the service does no work, by what it waits for; empty when it does."""

    def status(self) -> Mapping[str, Any]:
        """Return the state of the service, without personal data."""

    def history(self) -> Mapping[str, Any]:
        """Return the last minutes, for charts."""

    def refresh(self) -> None:
        """Bring the metrics that are sampled, not counted, up to date."""


@asynccontextmanager
async def serve(host: str, port: int, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Serve the admin port and yield its number.

    Raises:
        Failure: the port is taken or the host is not ours.
    """

    async def livez(_: web.Request) -> web.Response:
        alive = health.alive()
        return _json({"alive": alive}, 200 if alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        reasons = health.unready()
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def status(_: web.Request) -> web.Response:
        return _json(health.status(), 200)

    async def exposition(_: web.Request) -> web.Response:
        health.refresh()
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    events = Events(health.status, health.history)
    app = web.Application()
    app.on_shutdown.append(events.close)
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/status", status),
            web.get("/metrics", exposition),
            web.get("/", Page().get),
            web.get("/events", events.get),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise Failure(
                f"cannot listen on {host}:{port}: {error.strerror or error}; change ADMIN_HOST or ADMIN_PORT"
            ) from error
        actual = runner.addresses[0][1]
        _log.info("admin.listening", host=host, port=actual)
        yield actual
    finally:
        await runner.cleanup()


def _json(body: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
