"""What happens in a simulated world, line by line: time, instance, event; and a hash of all of it."""

import asyncio
import hashlib
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from tests.simulation.timeline import Timeline

_FORMAT: Final = "{:10.6f}  {:9} {}\n"
_FAULTS: Final = ("error: sync.fault", "critical:", "exception:")


class Trace:
    """Keeps what it is told, or only the hash of it."""

    def __init__(self, timeline: Timeline, *, keep: bool) -> None:
        self.lines: list[str] = []
        self.faults: list[str] = []
        """What the program logged that a right one never does."""
        self._timeline = timeline
        self._keep = keep
        self._hash = hashlib.blake2b(digest_size=8)

    def tell(self, name: str, text: str) -> None:
        """Take note of an event of an instance, or of the world."""
        line = _FORMAT.format(self._timeline.now, name, text)
        self._hash.update(line.encode(errors="backslashreplace"))
        if self._keep:
            self.lines.append(line)

    @property
    def hash(self) -> str:
        """Two runs with the same hash were the same, event for event."""
        return self._hash.hexdigest()


class LogLines:
    """A processor of structlog that puts what the program logs into the trace of the world that runs."""

    def __init__(self) -> None:
        self.trace: Trace | None = None
        """Of the world that runs."""

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        """Take the line, and let nothing be printed."""
        text = " ".join([f"{method}: {event.pop('event')}", *(f"{key}={value!r}" for key, value in event.items())])
        if self.trace is not None:
            if text.startswith(_FAULTS):
                self.trace.faults.append(text)
            self.trace.tell(getattr(asyncio._get_running_loop(), "name", "world"), text)
        raise structlog.DropEvent


LOG_LINES: Final = LogLines()
