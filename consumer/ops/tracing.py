"""Traces, where OpenTelemetry is installed (extra `otel`). Without it nothing here costs more than a test for None.

The trace of a record that carries a `traceparent` (W3C Trace Context) goes on: the sync that answers it sends the
context to both APIs, and its log lines carry `trace_id`. With an exporter configured (`OTEL_EXPORTER_OTLP_ENDPOINT`)
spans of poll, sync, read, plan and write are exported, too.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from consumer.failure import Failure
from consumer.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from consumer.ops.spans import Tracing

_log = structlog.get_logger("tracing")

# Version 00; of a later one only the part that 00 has is known (W3C Trace Context, 3.2).
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE: Final = 512
"""Bytes of a `tracestate` that everybody must pass on; a longer one is left out as a whole."""

_FLUSH_SECONDS: Final = 2.0
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


Headers = Iterable[tuple[str, bytes | None]]


class Carried(Struct, frozen=True, gc=False):
    """The trace context that came with a record, as it was written there."""

    traceparent: bytes
    tracestate: bytes

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The context as headers of a record."""
        state = [("tracestate", self.tracestate)] if self.tracestate else []
        return [("traceparent", self.traceparent), *state]


def carried(headers: Headers) -> Carried | None:
    """Return the context in a record's headers, or None where there is none, or none that can be read.

    `baggage` is not looked at: it may hold anything about anybody, and would end up at third parties.
    """
    found = {name: value for name, value in headers if name in {"traceparent", "tracestate"}}
    parent, state = found.get("traceparent"), found.get("tracestate") or b""
    if not parent or not _TRACEPARENT.fullmatch(parent):
        return None
    return Carried(parent, state if len(state) <= _LONGEST_STATE and state.isascii() else b"")


@asynccontextmanager
async def open_tracing(settings: Settings, environ: Mapping[str, str]) -> "AsyncIterator[Tracing | None]":
    """Open what traces, as the `OTEL_*` variables say; None without the extra, or with `OTEL_SDK_DISABLED`.

    At the end what is not exported yet is given two seconds.

    Raises:
        Failure: the variables ask for an exporter that there is not.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield None
        return
    wanted = _exporter(environ)
    try:
        from consumer.ops import spans  # noqa: PLC0415 - an extra
    except ImportError:
        if wanted:
            _log.warning("tracing.not_installed", hint="pip install 'sesamy-mailmojo[otel]'")
        yield None
        return
    if not wanted:
        yield spans.Tracing(settings)
        return
    provider = spans.provider(settings, environ, wanted)
    _log.info("tracing.on", exporter=wanted)
    try:
        yield spans.Tracing(settings, provider)
    finally:
        await _shut_down(provider)


def _exporter(environ: Mapping[str, str]) -> str | None:
    """Return the exporter that the environment asks for: `otlp`, `console`, or None."""
    name = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not name:
        name = "otlp" if any(environ.get(variable) for variable in _ENDPOINTS) else "none"
    if name not in {"otlp", "console", "none"}:
        raise Failure(f"OTEL_TRACES_EXPORTER must be otlp, console or none, not {name[:80]!r}")
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if name == "otlp" and protocol and protocol != "http/protobuf":
        raise Failure(f"OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not {protocol[:80]!r}")
    return None if name == "none" else name


async def _shut_down(provider: "TracerProvider") -> None:
    """Export what is left, in a thread that nobody waits for longer: a collector may be away."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        try:
            provider.shutdown()
        finally:
            with suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="tracing", daemon=True).start()
    try:
        async with asyncio.timeout(_FLUSH_SECONDS):
            await done.wait()
    except TimeoutError:
        _log.warning("tracing.not_flushed", seconds=_FLUSH_SECONDS)
