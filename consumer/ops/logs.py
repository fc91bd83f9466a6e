"""Logs as events with fields, to stderr: JSON for machines, or columns for people.

Other libraries' records come through the same way, from warnings upwards. No e-mail address passes (promise P8), no
traceback shows local values, and what a library repeats is not repeated here.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from consumer.clock import Clock
from consumer.masking import mask_addresses
from consumer.settings import LogSettings

_QUIET_SECONDS = 60.0
_TEMPLATES_KEPT = 1000


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send this process's logs to the stream (stderr by default) as the settings say.

    A call below the configured level costs a method call that does nothing.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask,
    ]
    factory: structlog.BytesLoggerFactory | structlog.WriteLoggerFactory
    if settings.format == "json":
        processors.append(_to_json)
        factory = structlog.BytesLoggerFactory(stream.buffer)
    else:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
            )
        )
        factory = structlog.WriteLoggerFactory(stream)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(level, logging.WARNING), handlers=[LibraryRecords(quiet_seconds=_QUIET_SECONDS)], force=True
    )
    logging.captureWarnings(capture=True)


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask e-mail addresses in every value of an event, however deep; what is no JSON value becomes its text."""
    return {key: _masked(value) for key, value in event.items()}


def _masked(value: object) -> object:
    if isinstance(value, str):
        return mask_addresses(value) if "@" in value or "%40" in value else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(_masked(key)): _masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(part) for part in value]
    return mask_addresses(str(value))


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:  # an integer beyond 64 bits, or half a character from somebody's JSON: a log call never fails
        return json.dumps(event).encode()


class LibraryRecords(logging.Handler):
    """Passes records of the standard library's logging on to structlog, each kind at most once in a while.

    With the brokers away aiokafka says so several times a second. What one logger says with one template counts as
    the same; the next one that passes carries how many were `suppressed`.
    """

    def __init__(self, *, quiet_seconds: float, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record on, or count it."""
        kind, now = (record.name, str(record.msg)), self._clock()
        if kind in self._last and now - self._last[kind] < self._quiet_seconds:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return
        if len(self._last) >= _TEMPLATES_KEPT:  # texts pasted together before logging are each a template of their own
            self._last.clear()
            self._suppressed.clear()
        self._last[kind] = now
        fields: dict[str, object] = {"logger": record.name}
        if suppressed := self._suppressed.pop(kind, 0):
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        try:
            structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)
