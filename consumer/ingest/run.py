"""`ingest` put together: the endpoint on its port, probes and metrics on the admin port, until told to stop."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from consumer.failure import Failure
from consumer.ingest.endpoint import Endpoint
from consumer.ingest.gate import Gate
from consumer.ingest.metrics import IngestMetrics
from consumer.ingest.patience import KEEP_ALIVE_SECONDS, cut_the_silent
from consumer.ingest.store import TopicStore
from consumer.settings import Settings

_log = structlog.get_logger("ingest")

_TICK_BOUND: Final = 15.0
"""Seconds without a turn of the watching task until the process counts as stuck; each of its calls is shorter."""


async def run(settings: Settings, stopping: asyncio.Event, begun: Callable[[], object] = lambda: None) -> None:
    """Take events until `stopping` is set; then listen no more, and answer what was accepted.

    `begun` is called once Kafka is connected: until then this may be cancelled.

    Raises:
        Failure: Kafka is out of reach, the topic is missing, or a port is taken.
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
    grace = settings.sync.shutdown_timeout
    async with _listening(
        _probes(endpoint, store, metrics, stopping),
        settings.admin.host,
        settings.admin.port,
        1.0,
        ("admin.listening", "ADMIN_HOST or ADMIN_PORT"),
    ):
        async with _listening(
            endpoint.app(),
            settings.ingest.host,
            settings.ingest.port,
            grace,
            ("ingest.listening", "INGEST_HOST or INGEST_PORT"),
        ) as server:
            cutting = asyncio.create_task(cut_the_silent(server, endpoint.heard), name="cut")
            try:
                await stopping.wait()
            finally:
                cutting.cancel()
            _log.info("ingest.stopping", in_flight=endpoint.in_flight)
        _log.info("ingest.stopped")


def _probes(endpoint: Endpoint, store: TopicStore, metrics: IngestMetrics, stopping: asyncio.Event) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        alive = asyncio.get_running_loop().time() - store.ticked_at < _TICK_BOUND
        return _json({"alive": alive}, 200 if alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        reasons = {"kafka": store.away} if store.away else {}
        if stopping.is_set():
            reasons["ingest"] = "stopping"
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def exposition(_: web.Request) -> web.Response:
        metrics.in_flight.set(endpoint.in_flight)
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", exposition)])
    return app


@asynccontextmanager
async def _listening(
    app: web.Application, host: str, port: int, grace: float, said: tuple[str, str]
) -> AsyncIterator[web.Server]:
    """Serve an application inside the block; at its end, listen no more and give open requests `grace` seconds."""
    event, setting = said
    server_log = logging.getLogger("ingest.http")
    server_log.addFilter(_without_quotes)
    runner = web.AppRunner(
        app, access_log=None, logger=server_log, shutdown_timeout=grace, keepalive_timeout=KEEP_ALIVE_SECONDS
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            raise Failure(f"cannot listen on {host}:{port}: {error.strerror or error}; change {setting}") from error
        _log.info(event, host=host, port=runner.addresses[0][1])
        yield cast("web.Server", runner.server)  # there is one after `setup`
    finally:
        await runner.cleanup()


def _without_quotes(record: logging.LogRecord) -> bool:
    """Keep to its kind what aiohttp says of a request it cannot read: it quotes the line, the secret's too (P8)."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "unreadable request: %s", (type(error).__name__,), None
    return True


def _json(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
