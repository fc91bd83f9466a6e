"""Spans by OpenTelemetry, in the terms of its conventions for messaging. Imported only where its SDK is installed."""

import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from typing import Any, Final

import structlog
from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Link, NoOpTracer, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumer.clients.errors import ApiError
from consumer.mapping.instants import UnreadableState
from consumer.masking import mask_addresses
from consumer.ops.tracing import Carried, Headers, carried
from consumer.settings import Settings
from consumer.stream.pending import TracedEvent, Waiting

_NAME: Final = "sesamy-mailmojo"
_LINKS: Final = 64
"""Other traces that a sync names at the most; it may answer thousands of events."""

_propagator: Final = TraceContextTextMapPropagator()


def provider(settings: Settings, environ: Mapping[str, str], exporter: str) -> TracerProvider:
    """Return a provider that exports in a thread of its own, as the `OTEL_*` variables say."""
    attributes = {"service.version": version(_NAME), "service.instance.id": settings.kafka.client_id}
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named:
        attributes["service.name"] = _NAME
    made = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return made


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - heavy

    return OTLPSpanExporter()


class Tracing:
    """Makes the spans of one process. Without a provider it makes none, and passes contexts on as they came."""

    def __init__(self, settings: Settings, provider: TracerProvider | None = None) -> None:
        self.records_spans = provider is not None
        self._active = self.records_spans  # until a context comes there may be nothing to do
        self._tracer = provider.get_tracer(_NAME, version(_NAME)) if provider else NoOpTracer()
        self._topic = settings.kafka.topic
        self._common = {
            "messaging.system": "kafka",
            "messaging.destination.name": settings.kafka.topic,
            "messaging.consumer.group.name": settings.group_id,
            "messaging.client.id": settings.kafka.client_id,
        }

    def polled(self, seconds: float, records: int) -> None:
        """Note a poll that just ended, took so many seconds, and brought records."""
        end = time.time_ns()
        span = self._tracer.start_span(
            f"poll {self._topic}",
            context.Context(),
            SpanKind.CONSUMER,
            self._common | _operation("poll", "receive") | {"messaging.batch.message_count": records},
            start_time=end - int(seconds * 1e9),
        )
        span.end(end)

    def carried(self, headers: Headers) -> Carried | None:
        """Return the trace context in a record's headers, if there is one."""
        found = carried(headers)
        self._active |= found is not None
        return found

    def sync(self, user_id: str) -> "SyncTrace | None":
        """Return the trace of one sync; None as long as there is nothing to pass on."""
        return SyncTrace(self, user_id) if self._active else None

    def start(self, user_id: str, events: Sequence[Waiting]) -> Span | None:
        """Start the span of a sync: in the trace of its newest event that has one, linked to those of the others."""
        traced = (event.carried for event in reversed(events) if isinstance(event, TracedEvent))
        contexts = [_span_context(carried) for carried in islice(dict.fromkeys(traced), 1 + _LINKS)]
        if not (contexts or self.records_spans):
            return None
        parent, newest = context.Context(), events[-1]
        if contexts:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(contexts[0]), parent)
        attributes: dict[str, str | int] = {
            "messaging.destination.partition.id": str(newest.partition),
            "messaging.kafka.offset": newest.offset,
            "messaging.batch.message_count": len(events),
            "sesamy_mailmojo.event_type": newest.event_type,
            "user.id": user_id,
        }
        return self._tracer.start_span(
            f"process {self._topic}",
            parent,
            SpanKind.CONSUMER,
            self._common | _operation("process", "process") | attributes,
            [Link(other) for other in contexts[1:]],
        )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Enclose a step of the sync that is under way in this task."""
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield
            except Exception as error:
                _fail(span, error)
                raise

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Add the context of this task, if it has one, to the headers of a request."""
        if self._active and trace.get_current_span() is not trace.INVALID_SPAN:
            _propagator.inject(headers)


class SyncTrace:
    """The span of one sync, from the moment when it takes its events; the task that syncs is in it from then on."""

    def __init__(self, tracing: Tracing, user_id: str) -> None:
        self._tracing = tracing
        self._user_id = user_id
        self._span: Span | None = None

    def begin(self, events: Sequence[Waiting]) -> None:
        """Begin, in the task that syncs."""
        if self._span is not None or not events:
            return
        self._span = self._tracing.start(self._user_id, events)
        if self._span is not None:
            # Never detached: the context is the task's own, and ends with it.
            context.attach(trace.set_span_in_context(self._span))
            structlog.contextvars.bind_contextvars(trace_id=f"{self._span.get_span_context().trace_id:032x}")

    def failed(self, error: Exception) -> None:
        """Note what it failed of."""
        if self._span is not None:
            _fail(self._span, error)

    def succeeded(self, outcome: str) -> None:
        """Note what it came to."""
        if self._span is not None:
            self._span.set_attribute("sesamy_mailmojo.outcome", outcome)

    def end(self) -> None:
        """End the span."""
        if self._span is not None:
            self._span.end()


def _operation(name: str, kind: str) -> dict[str, Any]:
    return {"messaging.operation.name": name, "messaging.operation.type": kind}


def _fail(span: Span, error: Exception) -> None:
    # No traceback, and the text of our own errors alone: others may quote somebody's data (promise P8).
    span.set_attribute("error.type", type(error).__name__)
    known = isinstance(error, ApiError | UnreadableState)
    span.set_status(Status(StatusCode.ERROR, mask_addresses(str(error))[:500] if known else None))


def _span_context(carried: Carried) -> SpanContext:
    headers = {"traceparent": carried.traceparent.decode(), "tracestate": carried.tracestate.decode()}
    return trace.get_current_span(_propagator.extract(headers, context.Context())).get_span_context()
