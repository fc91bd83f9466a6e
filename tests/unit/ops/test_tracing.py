"""Traces: which context goes on, what the spans say, and what there is without the extra."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from consumer.clients.errors import Rejected
from consumer.failure import Failure
from consumer.ops.spans import SyncTrace, Tracing
from consumer.ops.tracing import Carried, carried, open_tracing
from consumer.settings import Settings, load
from consumer.stream.pending import TracedEvent, Waiting

TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
OTHERS = f"00-{OTHER}-b7ad6b7169203331-01".encode()
USER = "email|84cccf985de28a2a84824786"


@pytest.fixture
def settings() -> Settings:
    return load({"KAFKA_CLIENT_ID": "here"}, needs=())


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(settings: Settings, exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Tracing(settings, provider)
    provider.shutdown()


def event(offset: int, parent: bytes | None = None, state: bytes = b"") -> Waiting:
    waiting = (3, offset, "contract.1#update", 0.0, 0.0, False)
    return TracedEvent(*waiting, Carried(parent, state)) if parent else Waiting(*waiting)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def sync(tracing: Tracing, *events: Waiting, error: Exception | None = None) -> dict[str, str]:
    """Sync as a flight does, in a task of its own, and return the headers that a request of its read is given."""

    async def fly() -> dict[str, str]:
        headers: dict[str, str] = {}
        trace = tracing.sync(USER) or SyncTrace(tracing, USER)
        trace.begin(events)
        if tracing.records_spans:
            with tracing.step("read"):
                tracing.inject(headers)
        else:
            tracing.inject(headers)
        structlog.get_logger().info("contact.written")
        if error:
            trace.failed(error)
        else:
            trace.succeeded("updated")
        trace.end()
        return headers

    return await asyncio.create_task(fly())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", b"")],
        [("traceparent", None)],
        [("traceparent", b"\xff\xfe")],
        [("traceparent", PARENT.upper())],
        [("traceparent", PARENT[:-1])],
        [("traceparent", PARENT + b"-x" * 10_000)],
        [("traceparent", b"ff" + PARENT[2:])],
        [("traceparent", b"00-" + b"0" * 32 + PARENT[35:])],
        [("tracestate", b"a=1")],
        [("Traceparent ", PARENT)],
    ],
)
def test_what_is_no_context_is_none(headers: list[tuple[str, bytes | None]]) -> None:
    assert carried(headers) is None


def test_a_context_is_kept_as_it_came_and_a_state_only_while_it_is_short() -> None:
    assert carried([("x", b"y"), ("traceparent", PARENT)]) == Carried(PARENT, b"")
    assert carried([("traceparent", PARENT), ("tracestate", b"a=1")]) == Carried(PARENT, b"a=1")
    assert carried([("traceparent", PARENT), ("tracestate", b"a=" + b"1" * 511)]) == Carried(PARENT, b"")
    assert carried([("traceparent", PARENT), ("tracestate", b"a=\xff")]) == Carried(PARENT, b"")


async def test_a_sync_goes_on_the_trace_of_its_newest_event_that_has_one(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    headers = await sync(tracing, event(1, OTHERS), event(2, PARENT, b"a=1"), event(3))
    process, read = spans(exporter)["process sesamy.events"], spans(exporter)["read"]
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert process.parent.span_id == 0x00F067AA0BA902B7
    assert [f"{link.context.trace_id:032x}" for link in process.links] == [OTHER]
    assert read.parent == process.context
    assert read.context is not None
    assert headers == {"traceparent": f"00-{TRACE}-{read.context.span_id:016x}-01", "tracestate": "a=1"}
    assert attributes(process) == {
        "messaging.system": "kafka",
        "messaging.destination.name": "sesamy.events",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "sesamy-mailmojo",
        "messaging.client.id": "here",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 3,
        "sesamy_mailmojo.event_type": "contract.1#update",
        "sesamy_mailmojo.outcome": "updated",
        "user.id": USER,
    }


async def test_a_sync_names_a_bounded_number_of_other_traces(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    events = [event(number, f"00-{number:032x}-{number:016x}-01".encode()) for number in range(1, 1001)]
    await sync(tracing, *events)
    process = spans(exporter)["process sesamy.events"]
    assert [link.context.trace_id for link in process.links] == list(range(999, 999 - 64, -1))


async def test_one_trace_does_not_leak_into_another_sync(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    await sync(tracing, event(1, PARENT))
    exporter.clear()
    await sync(tracing, event(2))
    process = spans(exporter)["process sesamy.events"]
    assert process.parent is None
    assert process.context is not None
    assert f"{process.context.trace_id:032x}" != TRACE


async def test_an_error_is_recorded_masked_and_without_its_traceback(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    await sync(tracing, event(1), error=Rejected("mailmojo", "patch_contact", 422, "kari@example.no is taken"))
    await sync(tracing, event(2), error=KeyError("kari@example.no"))
    ours, other = (span for span in exporter.get_finished_spans() if span.name != "read")
    assert ours.status.status_code is other.status.status_code is StatusCode.ERROR
    assert "k***@example.no is taken" in (ours.status.description or "")
    assert other.status.description is None
    assert (attributes(ours)["error.type"], attributes(other)["error.type"]) == ("Rejected", "KeyError")
    assert not any(span.events for span in exporter.get_finished_spans())
    assert "kari" not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_a_step_that_fails_says_so(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(Rejected), tracing.step("write"):
        raise Rejected("mailmojo", "patch_contact", 422, "kari@example.no is taken")
    write = spans(exporter)["write"]
    assert write.status.status_code is StatusCode.ERROR
    assert "kari" not in write.to_json()


def test_a_poll_is_told_afterwards(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    tracing.polled(0.25, 7)
    poll = spans(exporter)["poll sesamy.events"]
    assert (poll.end_time or 0) - (poll.start_time or 0) == 250_000_000
    assert attributes(poll)["messaging.batch.message_count"] == 7
    assert attributes(poll)["messaging.operation.type"] == "receive"


async def test_without_an_exporter_a_context_is_passed_on_as_it_came(settings: Settings) -> None:
    tracing = Tracing(settings)
    assert tracing.sync(USER) is None
    assert tracing.carried([("x", b"y")]) is None
    assert tracing.sync(USER) is None
    assert tracing.carried([("traceparent", PARENT)]) is not None
    assert await sync(tracing, event(1, PARENT, b"a=1")) == {"traceparent": PARENT.decode(), "tracestate": "a=1"}
    assert await sync(tracing, event(2)) == {}


async def test_log_lines_of_a_sync_carry_its_trace(tracing: Tracing) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await sync(tracing, event(1, PARENT))
        structlog.get_logger().info("another")
    assert [line.get("trace_id") for line in lines] == [TRACE, None]


async def test_without_the_extra_there_is_nothing_and_who_asked_for_it_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "consumer.ops.spans")
    monkeypatch.delattr("consumer.ops.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with structlog.testing.capture_logs() as lines:
        async with open_tracing(settings, {}) as tracing:
            assert tracing is None
        assert lines == []
        async with open_tracing(settings, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) as tracing:
            assert tracing is None
    assert "sesamy-mailmojo[otel]" in lines[0]["hint"]


@pytest.mark.parametrize(
    ("environ", "on", "recording"),
    [
        ({}, True, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, False, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True, True),
    ],
)
async def test_the_variables_of_opentelemetry_decide(
    settings: Settings, environ: dict[str, str], on: bool, recording: bool
) -> None:
    async with open_tracing(settings, environ) as tracing:
        assert (tracing is not None) is on
        assert (tracing is not None and tracing.records_spans) is recording


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
async def test_an_exporter_that_there_is_not_is_named(settings: Settings, environ: dict[str, str]) -> None:
    with pytest.raises(Failure, match=r"OTEL_\w+ must be"):
        async with open_tracing(settings, environ):
            pass
