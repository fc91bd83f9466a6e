"""`ingest` put together: the endpoint on its port, probes and metrics on the admin port, until told to stop."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import orjson
import structlog
from aiohttp import web

from consumer.ingest.endpoint import Endpoint
from consumer.ingest.gate import Gate
from consumer.ingest.metrics import IngestMetrics
from consumer.ingest.store import TopicStore
from consumer.ops import admin
from consumer.ports import serving
from consumer.ports.connections import ConnectionLimits, bounded, descriptors
from consumer.ports.hosts import Hosts
from consumer.settings import Settings

_log = structlog.get_logger("ingest")

_IDLE: Final = 75.0
"""Seconds that a connection may be idle: longer than load balancers keep theirs."""

_TICK_BOUND: Final = 15.0
"""Seconds without a turn of the watching task until the process counts as stuck; each of its calls is shorter."""


async def run(settings: Settings, stopping: asyncio.Event, begun: Callable[[], object] = lambda: None) -> None:
    """Take events until `stopping` is set; then listen no more, and answer what was accepted.

    `begun` is called once Kafka is connected: until then this may be cancelled.

    Raises:
        Failure: Kafka is out of reach, the topic is missing, a port is taken, or Kafka took no event for five minutes.
    """
    metrics = IngestMetrics()
    store = TopicStore(settings.kafka, metrics)
    await store.start()
    begun()
    try:
        endpoint = Endpoint(
            Gate(settings.ingest.secret, clock=time.monotonic),
            store,
            metrics,
            header=settings.ingest.header,
            max_body=settings.ingest.max_body,
            value_pointer=settings.kafka.value_pointer,
            clock=time.monotonic,
        )
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(store.run(), name="watch")
            try:
                await _serve(settings, endpoint, store, metrics, stopping)
            finally:
                watch.cancel()
    finally:
        await store.close()


async def _serve(
    settings: Settings, endpoint: Endpoint, store: TopicStore, metrics: IngestMetrics, stopping: asyncio.Event
) -> None:
    host, port = settings.admin.host, settings.admin.port
    listening = asyncio.Event()
    hosts = Hosts({host, *settings.admin.allowed_hosts})
    probes = _probes(endpoint, store, metrics, hosts, listening=listening, stopping=stopping)
    async with serving.serve(probes, host, port, admin.limits(), name="admin", grace=1.0) as admin_port:
        _log.info("admin.listening", host=host, port=admin_port)
        host, port, grace = settings.ingest.host, settings.ingest.port, settings.sync.shutdown_timeout
        async with serving.serve(endpoint.app(), host, port, limits(), name="ingest", grace=grace) as ingest_port:
            listening.set()
            _log.info("ingest.listening", host=host, port=ingest_port)
            await stopping.wait()
            _log.info("ingest.stopping", in_flight=endpoint.in_flight)
        _log.info("ingest.stopped")


def limits() -> ConnectionLimits:
    """Return the bounds of the endpoint's connections; the process needs few descriptors besides."""
    return ConnectionLimits(most=min(1024, max(16, (descriptors() - 64) * 3 // 4)), idle=_IDLE)


def _probes(
    endpoint: Endpoint,
    store: TopicStore,
    metrics: IngestMetrics,
    hosts: Hosts,
    *,
    listening: asyncio.Event,
    stopping: asyncio.Event,
) -> web.Application:
    """Return the admin port's application: ready is an endpoint that listens and whose events Kafka takes."""

    async def livez(_: web.Request) -> web.Response:
        alive = asyncio.get_running_loop().time() - store.ticked_at < _TICK_BOUND
        return _json({"alive": alive}, 200 if alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        reasons = {"kafka": store.away} if store.away else {}
        if stopping.is_set():
            reasons["ingest"] = "stopping"
        elif not listening.is_set():
            reasons["ingest"] = "does not listen yet"
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def exposition(_: web.Request) -> web.Response:
        metrics.in_flight.set(endpoint.in_flight)
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application(middlewares=[bounded, hosts.check])
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", exposition)])
    return app


def _json(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
