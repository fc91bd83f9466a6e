"""Every request that reached the fakes, and what a test asks of them (the promises of `docs/contract.md`)."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Self

import msgspec
from msgspec import Struct

from consumer import files
from consumer.sandbox.faults import ApiName

CUT = 0
"""The status of a request whose connection was closed without an answer."""

_FLUSH_AFTER = 1.0


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """One request. Times are seconds: monotonic (the same clock in all processes of a machine) and unix."""

    number: int
    """Counts requests in the order in which they were finished, from 1."""
    api: ApiName
    operation: str
    method: str
    path: str
    """The raw target, as it arrived."""
    start: float
    end: float
    start_unix: float
    end_unix: float
    status: int
    write: bool = False
    """Meant to change a contact or its place on a list."""
    user_id: str | None = None
    """The user read, or the one that a contact's write names."""
    address: str | None = None
    """The contact's address in lower case."""
    change: int | None = None
    """Orders the changes of all contacts; None when nothing took effect."""
    contact_before: int | None = None
    contact_after: int | None = None
    """The contact's version before and after (a read: the version read, in both)."""
    user_version: int | None = None
    """The version of the Sesamy user that the answer or the written contact carries."""
    damage: tuple[str, ...] = ()
    """What a write did that none may do (`contacts.damage`)."""
    violations: tuple[str, ...] = ()
    """The rules of the references that the request broke."""
    traceparent: str | None = None
    """The trace that the request belongs to, as its header of that name says."""


class Violation(Struct, frozen=True):
    """A request that a correct client never sends, and the rule it breaks."""

    number: int
    api: ApiName
    operation: str
    rule: str


class RequestLog:
    """Requests in memory, at most `limit` of them (None: all), and in an NDJSON file when `path` is given."""

    def __init__(self, *, path: Path | None = None, limit: int | None = None) -> None:
        """Open the file, if any, to append.

        Raises:
            OSError: the file cannot be opened.
        """
        self.records: list[Record] = []
        self.violations: list[Violation] = []
        self._limit = limit
        self.count = 0
        self._encoder = msgspec.json.Encoder()
        self._flushed = time.monotonic()
        self._file: IO[bytes] | None = files.append(path, buffering=1 << 18) if path else None

    def add(self, record: Record) -> None:
        """Keep a record; its number must be `count` + 1."""
        self.count = record.number
        self.records.append(record)
        if self._limit is not None and len(self.records) > self._limit:
            del self.records[: self._limit // 10 + 1]  # a tenth at a time: dropping one costs as much
        for rule in record.violations:
            self.violations.append(Violation(record.number, record.api, record.operation, rule))
        if self._file is not None:
            self._file.write(self._encoder.encode(record) + b"\n")
            if record.end - self._flushed > _FLUSH_AFTER:
                self._flushed = record.end
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def clear(self) -> None:
        """Forget what was logged so far; numbers go on."""
        self.records.clear()
        self.violations.clear()

    def since(self, number: int) -> list[Record]:
        """Return the records after this number."""
        newer = []
        for record in reversed(self.records):
            if record.number <= number:
                break
            newer.append(record)
        return newer[::-1]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the log of a file, so that the queries below work on it.

        Raises:
            OSError: the file cannot be read.
            msgspec.DecodeError: it is no request log.
        """
        log = cls()
        with path.open("rb") as lines:
            log.extend(map(msgspec.json.Decoder(Record).decode, lines))
        return log

    def extend(self, records: Iterable[Record]) -> None:
        """Add records of another log."""
        for record in records:
            self.add(record)

    def requests(
        self, api: ApiName | None = None, operation: str | None = None, key: str | None = None
    ) -> list[Record]:
        """Return the requests to an API, of an operation, about a user id or (lower-case) address, in order."""
        return [
            record
            for record in self.records
            if api in {None, record.api}
            and operation in {None, record.operation}
            and key in {None, record.user_id, record.address}
        ]

    def writes(self, address: str | None = None) -> list[Record]:
        """Return the requests that changed a contact, in the order in which the changes took effect."""
        applied = [record for record in self.records if record.change is not None and address in {None, record.address}]
        return sorted(applied, key=lambda record: record.change or 0)

    def overlapping_writes(self) -> list[tuple[Record, Record]]:
        """Return pairs of writes of one contact that were open at once (P2: none), whether they took effect or not."""
        return [
            (earlier, later)
            for writes in self._by_contact(record for record in self.records if record.write)
            for earlier, later in _overlaps(writes)
        ]

    def backward_writes(self) -> list[tuple[Record, Record]]:
        """Return pairs of writes of one contact for one user of which the later carries an older version (P3: none)."""
        found = []
        newest: dict[tuple[str | None, str | None], Record] = {}
        for record in self.writes():
            if record.user_version is None:
                continue
            key = (record.address, record.user_id)
            before = newest.get(key)
            if before is not None and (before.user_version or 0) > record.user_version:
                found.append((before, record))
            else:
                newest[key] = record
        return found

    def excess(self, api: ApiName, *, rate: float, burst: float) -> float:
        """Return by how many requests the worst window [a, b] exceeds `burst + rate * (b - a)` (P6: at most 0)."""
        worst, base = float("-inf"), float("inf")
        starts = sorted(record.start for record in self.records if record.api == api)
        for number, start in enumerate(starts):
            base = min(base, number - rate * start)
            worst = max(worst, number + 1 - rate * start - base - burst)
        return worst

    def calls(self, api: ApiName) -> Counter[str]:
        """Return the number of requests per user id or address."""
        return Counter(
            key for record in self.records if record.api == api and (key := record.user_id or record.address)
        )

    def damaged(self) -> list[Record]:
        """Return the writes that lost foreign tags or fields, overwrote a name or phone, or subscribed who had left."""
        return [record for record in self.records if record.damage]

    def resubscribed(self) -> list[str]:
        """Return the addresses that a write subscribed although they had left."""
        return [record.address or "" for record in self.damaged() if "subscribed" in record.damage]

    @staticmethod
    def _by_contact(records: Iterable[Record]) -> Iterable[list[Record]]:
        contacts: defaultdict[str | None, list[Record]] = defaultdict(list)
        for record in records:
            contacts[record.address].append(record)
        return contacts.values()


def _overlaps(writes: list[Record]) -> Iterator[tuple[Record, Record]]:
    longest: Record | None = None
    for record in sorted(writes, key=lambda record: record.start):
        if longest is not None and record.start < longest.end:
            yield longest, record
        if longest is None or record.end > longest.end:
            longest = record
