"""Logs as events with fields, to stderr: JSON for machines, or columns for people.

Other libraries' records come through the same way, from warnings upwards. No e-mail address passes (promise P8), no
traceback shows local values, and what is repeated without end is said now and then, with a count.
"""

import json
import logging
import sys
import time
from collections.abc import Hashable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from consumer.clock import Clock
from consumer.line_writer import LineStream
from consumer.masking import is_clean, mask_addresses
from consumer.printable import printable, printable_json, printable_values
from consumer.settings import LogSettings

_QUIET_SECONDS: Final = 60.0
_OF_A_KIND: Final = 20
"""Warnings and errors of ours of one kind that pass within that time: enough to see what they have in common."""

_KINDS_KEPT: Final = 1000

_OURS: Final = ("timestamp", "level")
"""Values that come from nowhere else: a secret that is such a word must not spoil them."""

_JSON_ONLY: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def configure(settings: LogSettings, stream: TextIO | None = None, *, libraries: bool = True) -> None:
    """Send this process's logs to the stream (stderr by default) as the settings say.

    Each line starts with time, level, event and user id. Without `libraries` what others log of a failure is left out:
    a command tells it in one line at its end. A call below the configured level costs a method call that does nothing.
    """
    stream = stream or sys.stderr
    if isinstance(stream.buffer, LineStream):
        stream.buffer.writer.resumed = _tell_of_dropped
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        QuietRepeats(Repeats(_OF_A_KIND, _QUIET_SECONDS)),
        structlog.processors.format_exc_info,
        _in_order,
    ]
    factory: structlog.BytesLoggerFactory | structlog.WriteLoggerFactory
    if settings.format == "json":
        processors.append(_to_json)
        factory = structlog.BytesLoggerFactory(stream.buffer)
    else:
        processors += (mask, _printable)
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
                pad_event_to=24,
                sort_keys=False,
            )
        )
        factory = structlog.WriteLoggerFactory(stream)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    least = logging.WARNING if libraries else logging.CRITICAL
    logging.basicConfig(level=max(level, least), handlers=[LibraryRecords(quiet_seconds=_QUIET_SECONDS)], force=True)
    logging.captureWarnings(capture=True)


def _tell_of_dropped(count: int) -> None:
    structlog.get_logger("logs").warning("log.lines_dropped", count=count)


def _in_order(_logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Begin the line with time, level and event, and the user id where there is one."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    first: EventDict = {"timestamp": now, "level": level, "event": event["event"]}
    if "user_id" in event:
        first["user_id"] = event["user_id"]
    return {**first, **event}


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask e-mail addresses and secrets in every value of an event, however deep; other types become text."""
    return {key: value if key in _OURS else _masked(value) for key, value in event.items()}


def _masked(value: object) -> object:
    if isinstance(value, str):
        return mask_addresses(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(_masked(key)): _masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(part) for part in value]
    return mask_addresses(str(value))


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    with suppress(TypeError):
        line = orjson.dumps(event, option=_JSON_ONLY)
        if is_clean(line):  # as nearly every line is
            return _shown(line)
    masked = mask(logger, method, event)
    try:
        return _shown(orjson.dumps(masked))
    except TypeError:  # an integer beyond 64 bits, or half a character from somebody's JSON: a log call never fails
        return _shown(json.dumps(masked).encode())


def _shown(line: bytes) -> bytes:
    if line.isascii() and b"\x7f" not in line:
        return line
    return printable_json(line.decode()).encode()


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal acts upon; a traceback keeps its lines, indented so that none looks like a new entry."""
    return {key: _indented(str(it)) if key == "exception" else printable_values(it) for key, it in event.items()}


def _indented(text: str) -> str:
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


class Repeats:
    """Counts what is said over and over: of one kind `most` pass within `seconds`, then silence for as long."""

    def __init__(self, most: int, seconds: float, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}

    def suppressed(self, kind: Hashable) -> int | None:
        """Return how many of the kind were held back since one passed, or None when this one is held back, too."""
        now = self._clock()
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= _KINDS_KEPT:  # texts pasted together before logging are each a kind of their own
                self._kinds.clear()
            found = self._kinds[kind] = _Kind(now)
        elif now - found.since >= self._seconds:
            found.since, found.passed = now, 0
        elif found.passed >= self._most:
            found.suppressed += 1
            return None
        found.passed += 1
        suppressed, found.suppressed = found.suppressed, 0
        return suppressed


class _Kind:
    __slots__ = ("passed", "since", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.passed = self.suppressed = 0


class QuietRepeats:
    """Lets of our own warnings and errors so many of a kind through; the next that passes says what was `suppressed`.

    A topic full of nonsense would write a line for each record. What is told at info level is an audit, and complete.
    """

    def __init__(self, repeats: Repeats) -> None:
        self._repeats = repeats

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        """Pass the event on. Raises `DropEvent` for one too many, as structlog wants it."""
        if level in {"warning", "error", "critical"} and "logger" not in event:
            suppressed = self._repeats.suppressed((event["event"], str(event.get("reason", event.get("api", "")))))
            if suppressed is None:
                raise structlog.DropEvent
            if suppressed:
                event["suppressed"] = suppressed
        return event


class LibraryRecords(logging.Handler):
    """Passes records of the standard library's logging on to structlog, each kind at most once in a while.

    With the brokers away aiokafka says so several times a second. What one logger says with one template counts as
    the same; the next one that passes carries how many were `suppressed`.
    """

    def __init__(self, *, quiet_seconds: float, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(1, quiet_seconds, clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record on, or count it."""
        suppressed = self._repeats.suppressed((record.name, str(record.msg)))
        if suppressed is None:
            return
        fields: dict[str, object] = {"logger": record.name}
        if suppressed:
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        try:
            structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)
