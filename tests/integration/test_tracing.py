"""Traces of the whole program: from a record's headers to both APIs, and to a collector."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.oracle import address
from tests.integration.stage import Stage, event, stop
from tests.kafka_client import Message

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector:
    """The end of OTLP over HTTP, which keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            names = [pair.value.string_value for pair in of_resource.resource.attributes if pair.key == "service.name"]
            self.services.update(names)
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


def traced(user_id: str, traceparent: str = TRACEPARENT) -> Message:
    return event(user_id)._replace(
        headers=(("traceparent", traceparent.encode()), ("tracestate", b"a=1"), ("baggage", b"name=kari"))
    )


async def test_a_trace_reaches_both_apis_and_the_collector(stage: Stage, collector: Collector) -> None:
    (user_id,) = stage.users(1)
    await stage.send(traced(user_id))
    service = await stage.service(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    await stage.all_committed()
    await stop(service)  # what is not exported yet is exported now

    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    assert set(spans) == {f"process {stage.topic}", "read", "plan", "write"}
    process = spans[f"process {stage.topic}"]
    assert process.parent_span_id.hex() == PARENT
    assert {spans[name].parent_span_id for name in ("read", "plan", "write")} == {process.span_id}
    assert collector.services == {"sesamy-mailmojo"}
    assert any(span.name == f"poll {stage.topic}" for span in collector.spans)

    of_step = {
        "get_user": "read",
        "list_contracts": "read",
        "list_entitlements": "read",
        "list_transactions": "read",
        "get_contact": "plan",
        "post_subscriber": "write",
    }
    sent = {record.operation: record.traceparent for record in stage.requests_since(0, *of_step)}
    assert sent == {operation: f"00-{TRACE}-{spans[step].span_id.hex()}-01" for operation, step in of_step.items()}
    (written,) = service.events("contact.written")
    assert written["trace_id"] == TRACE
    said = "".join(map(str, collector.spans))
    assert address(stage.user(user_id)) not in said
    assert "Kari" not in said


async def test_a_header_that_is_no_context_hurts_nobody(stage: Stage, collector: Collector) -> None:
    users = stage.users(3)
    for user_id, traceparent in zip(users, ("", "not a context", f"{TRACEPARENT}\0" * 1000), strict=True):
        await stage.send(traced(user_id, traceparent))
    service = await stage.service(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert await stage.dead_letters() == []
    await stop(service)


async def test_with_the_collector_away_everything_goes_on_and_ends_in_time(stage: Stage) -> None:
    users = stage.users(3)
    await stage.send(*map(traced, users))
    service = await stage.service(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="100")
    await stage.all_committed()
    assert stage.stale(users) == {}
    await stop(service)


async def test_without_a_collector_the_context_is_passed_on_as_it_came(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    await stage.send(traced(user_id))
    service = await stage.service()
    await stage.all_committed()
    assert {record.traceparent for record in stage.requests_since(0, "get_user", "post_subscriber")} == {TRACEPARENT}
    await stop(service)


async def test_without_the_extra_everything_works(stage: Stage, tmp_path: Path) -> None:
    # Python imports this module at its start, wherever it finds it.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    (user_id,) = stage.users(1)
    await stage.send(traced(user_id))
    service = await stage.service(PYTHONPATH=str(tmp_path), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    await stage.all_committed()
    assert stage.stale([user_id]) == {}
    assert await service.logged("tracing.not_installed")
    assert {record.traceparent for record in stage.log.records} == {None}
    await stop(service)
