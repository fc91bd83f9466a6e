"""Writes lines to a file descriptor from a thread of its own, so that nothing else waits for whoever reads them."""

import io
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that may wait; more is dropped and counted."""

_GATHER: Final = 0.005
"""Seconds between the first line and the write: one wake-up of the thread for many lines."""

_ATOMIC: Final = 4096
"""Bytes that a pipe takes as a whole (PIPE_BUF): lines of several processes in one pipe do not mix."""

_CHUNK: Final = 65536
"""Bytes written at once elsewhere."""


class LineWriter:
    """A bounded queue of lines, and the daemon thread that writes them in order, each as a whole.

    `write` never waits and never fails. Lines that find the queue full, or whose write fails (a full disk, a pipe
    without a reader), are dropped and counted; the next ones are tried again.
    """

    def __init__(self, descriptor: int, *, limit: int = _LIMIT) -> None:
        """Write to the descriptor, which stays open and stays the caller's; at most `limit` bytes wait."""
        self.descriptor = descriptor
        self.dropped = 0
        """Lines that were dropped, ever."""
        self.resumed: Callable[[int], object] = lambda _dropped: None
        """Called in the thread when lines are written again, with the number of lines dropped since the last call."""
        self._limit = limit
        self._chunk = _ATOMIC if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else _CHUNK
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._reported = 0
        self._torn = False
        self._lock = threading.RLock()  # re-entrant: the garbage collector may run, and print, at any allocation
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, lines: bytes) -> None:
        """Have the bytes written: whole lines, or a part of a line that a later call completes."""
        with self._lock:
            if self._size + len(lines) > self._limit or self._closing.is_set():
                self.dropped += max(1, lines.count(b"\n"))
                return
            self._queue.append(lines)
            self._size += len(lines)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def close(self, within: float) -> None:
        """Write what waits, for at most `within` seconds. What comes later is dropped."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            closing = self._closing.wait(_GATHER)
            self._wake.clear()
            written = False
            while chunk := self._take():
                written = self._put(chunk)
            if written and self.dropped > self._reported:
                dropped, self._reported = self.dropped - self._reported, self.dropped
                self.resumed(dropped)
            if closing:
                return

    def _take(self) -> bytes:
        """Return the next lines, as many as are written at once, or one line that is longer."""
        with self._lock:
            chunk = [self._queue.popleft()] if self._queue else []
            size = sum(map(len, chunk))
            while self._queue and size + len(self._queue[0]) <= self._chunk:
                chunk.append(self._queue.popleft())
                size += len(chunk[-1])
            self._size -= size
        return b"".join(chunk)

    def _put(self, chunk: bytes) -> bool:
        """Write the lines, and return whether that succeeded."""
        rest = memoryview(b"\n" + chunk if self._torn else chunk)
        while rest:
            try:
                written = os.write(self.descriptor, rest)
            except BlockingIOError:  # somebody else made it so; nothing is lost
                select.select([], [self.descriptor], [], 1.0)
            except OSError:
                self.dropped += max(1, bytes(rest).count(b"\n"))
                return False
            else:
                self._torn = written < len(rest)
                rest = rest[written:]
        return True


class LineStream(io.BufferedIOBase):
    """A `LineWriter` as a binary file, for `sys.stderr`."""

    def __init__(self, writer: LineWriter) -> None:
        self.writer = writer

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Have the bytes written."""
        self.writer.write(data if isinstance(data, bytes) else bytes(data))
        return len(data)

    @property
    def name(self) -> int:
        """What stands for a file's name."""
        return self.writer.descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self.writer.descriptor

    def isatty(self) -> bool:
        """Return whether that is a terminal."""
        return os.isatty(self.writer.descriptor)


def text_stream(writer: LineWriter, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Return a text file that hands each line on to the writer as soon as it is complete."""
    return io.TextIOWrapper(LineStream(writer), encoding=encoding, errors="backslashreplace", line_buffering=True)


@contextmanager
def text_stream_to(descriptor: int) -> Iterator[io.TextIOWrapper]:
    """Open a text file whose lines a thread writes to the descriptor; at the end they are given a second to arrive."""
    writer = LineWriter(descriptor)
    try:
        yield text_stream(writer)
    finally:
        writer.close(1.0)
