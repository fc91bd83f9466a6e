"""The admin port: probes, metrics, status and a page, for Kubernetes, Prometheus and people (`docs/contract.md`)."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import orjson
import structlog
from aiohttp import web
from msgspec.structs import asdict

from consumer.ops.live import MOST_VIEWERS, Events, Page
from consumer.ops.metrics import Metrics
from consumer.ports import serving
from consumer.ports.connections import ConnectionLimits, bounded, descriptors
from consumer.ports.hosts import Hosts
from consumer.printable import printable_values
from consumer.sync.evidence import Outage

_log = structlog.get_logger("admin")

_IDLE: Final = 20.0
"""Seconds that a connection may be idle: more than the usual interval of Prometheus, which else connects each time."""


class Health(Protocol):
    """What the probes ask the service."""

    def alive(self) -> bool:
        """Return whether the loop and the polling and committing tasks tick."""

    def unready(self) -> Mapping[str, str]:
        """Return why the service does no work, by what it waits for; empty when it does."""

    def outages(self) -> Sequence[Outage]:
        """Return the calls of the APIs that are down, each with its status and since when."""

    def status(self) -> Mapping[str, Any]:
        """Return the state of the service, without personal data."""

    def history(self) -> Mapping[str, Any]:
        """Return the last minutes, for charts."""

    def refresh(self) -> None:
        """Bring the metrics that are sampled, not counted, up to date."""


def limits() -> ConnectionLimits:
    """Return the bounds of an admin port's connections: the descriptors are for Kafka and the APIs."""
    return ConnectionLimits(most=min(64, max(8, descriptors() // 16)), idle=_IDLE)


@asynccontextmanager
async def serve(
    host: str, port: int, health: Health, metrics: Metrics, *, allowed_hosts: Iterable[str] = ()
) -> AsyncIterator[int]:
    """Serve the admin port and yield its number; `allowed_hosts` are names that requests may use for it.

    Raises:
        Failure: the port is taken or the host is not ours.
    """

    async def livez(_: web.Request) -> web.Response:
        alive = health.alive()
        return _json({"alive": alive}, 200 if alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        reasons = health.unready()
        calls = [asdict(outage) for outage in health.outages()]
        return _json({"ready": not reasons, "reasons": reasons, "calls": calls}, 503 if reasons else 200)

    async def status(_: web.Request) -> web.Response:
        return _json(health.status(), 200)

    async def exposition(_: web.Request) -> web.Response:
        health.refresh()
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    bounds = limits()
    events = Events(health.status, health.history, most_viewers=min(MOST_VIEWERS, bounds.most // 2))
    app = web.Application(middlewares=[bounded, Hosts({host, *allowed_hosts}).check])
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
    async with serving.serve(app, host, port, bounds, name="admin", grace=1.0) as actual:
        _log.info("admin.listening", host=host, port=actual)
        yield actual


def _json(body: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(body=orjson.dumps(printable_values(body)), status=status, content_type="application/json")
