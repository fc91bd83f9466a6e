"""An NDJSON file as a source and as a destination of records."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final, Self

from consumer import files
from consumer.failure import Failure
from consumer.replay.record import Record, UnreadableLine, from_line, to_line

_CHUNK: Final = 1 << 20
"""Bytes read or written at a time, in a thread."""

_LONGEST_LINE: Final = 64 << 20
"""Bytes of a line, far above the largest record that brokers take; a longer one is read in pieces, which hold none."""


class FileSource:
    """Reads the records of a file, line by line; blank lines are skipped."""

    def __init__(
        self,
        path: Path,
        *,
        partitions: Collection[int] | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        """Read records of these partitions, or all, from `since` on and before `until` (ms)."""
        self._path = path
        self._partitions = partitions
        self._since = since
        self._until = until
        self._size = 0
        self._read = 0
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        try:
            self._file = await asyncio.to_thread(self._path.open, "rb")
        except OSError as error:
            raise Failure(f"cannot read {self._path}: {error.strerror}") from error
        self._size = os.fstat(self._file.fileno()).st_size
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def progress(self) -> float:
        """How much of the source was given out, from 0 to 1; 0 for a pipe."""
        return min(1.0, self._read / self._size) if self._size else 0.0

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Yield all records. Raises `Failure` when a line holds none."""
        if self._file is None:
            raise RuntimeError("open it with `async with`")
        number = 0
        while lines := await asyncio.to_thread(_read_lines, self._file):
            batch: list[Record] = []
            for line in lines:
                number += 1
                self._read += len(line)
                if line.isspace():
                    continue
                try:
                    record = from_line(line)
                except UnreadableLine as error:
                    yield batch  # what could be read is replayed, and the count says where to go on
                    raise Failure(f"{self._path}, line {number}: {error}") from None
                if self._wants(record):
                    batch.append(record)
            yield batch

    def _wants(self, record: Record) -> bool:
        return (
            (self._partitions is None or record.partition in self._partitions)
            and (self._since is None or record.timestamp >= self._since)
            and (self._until is None or record.timestamp < self._until)
        )


class FileSink:
    """Writes records to a new file."""

    def __init__(self, path: Path, acknowledged: Callable[[float | None], None], *, overwrite: bool = False) -> None:
        """Write to this file, which must not exist unless `overwrite`; `acknowledged` gets each record's `due`."""
        self._path = path
        self._acknowledged = acknowledged
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        self._waiting = bytearray()
        self._dues: list[float | None] = []

    async def __aenter__(self) -> Self:
        try:
            self._file = await asyncio.to_thread(files.create, self._path, overwrite=self._overwrite, buffering=0)
        except FileExistsError:
            raise Failure(f"{self._path} exists; choose another file, or give --overwrite") from None
        except OSError as error:
            raise Failure(f"cannot write {self._path}: {error.strerror}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    async def put(self, record: Record, due: float | None = None) -> None:
        """Take a record; written when enough of them are there. Raises `Failure` when that does not work."""
        self._waiting += to_line(record)
        self._dues.append(due)
        if len(self._waiting) >= _CHUNK or due is not None:
            await self.flush()

    async def flush(self) -> None:
        """Write what is there. Raises `Failure` when that does not work."""
        if self._file is None:
            raise RuntimeError("open it with `async with`")
        waiting, self._waiting = bytes(self._waiting), bytearray()
        dues, self._dues = self._dues, []
        # Shielded: a line that was begun is finished, or the file would not be readable after a stop.
        writing = asyncio.ensure_future(asyncio.to_thread(_write, self._file, waiting))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            self._count(dues)
            raise
        except OSError as error:
            raise Failure(f"cannot write {self._path}: {error.strerror}") from error
        self._count(dues)

    def _count(self, dues: list[float | None]) -> None:
        for due in dues:
            self._acknowledged(due)


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read_lines(file: BinaryIO) -> list[bytes]:
    lines, size = [], 0
    while size < _CHUNK and (line := file.readline(_LONGEST_LINE)):
        lines.append(line)
        size += len(line)
    return lines
