"""What a sync is told by whoever runs it: when its snapshot begins, and whether it may still write."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from msgspec import Struct
from msgspec.structs import asdict


class LeaseLost(Exception):
    """This process may no longer write for this user: its partitions belong, or may belong, to somebody else.

    Nothing is wrong with the user; whoever owns the partition syncs it.
    """


class WriteAudit(Struct, frozen=True, kw_only=True):
    """One write, for the log: names of what changed, never the values of personal fields."""

    action: str
    fields: tuple[str, ...]
    tags_added: tuple[str, ...]
    tags_removed: tuple[str, ...]

    def as_fields(self) -> dict[str, object]:
        """Return the fields of a log line."""
        return asdict(self)


class Flight(Protocol):
    """One sync under way, as its runner sees it.

    A sync waits, then reads, then writes. Until it writes it may be cancelled at any point.
    """

    def reading(self) -> None:
        """Called right before the first read: events that arrived until now are answered by this sync (P3)."""

    def writing(self) -> AbstractContextManager[None]:
        """Enclose a request that changes something; it is not cancelled.

        Raises:
            LeaseLost: the request must not be sent.
        """

    def wrote(self, audit: WriteAudit) -> None:
        """Called after each write that was accepted."""


class LoneFlight:
    """A flight outside any group: the service is stopped, so nobody else can write."""

    def __init__(self) -> None:
        self.audits: list[WriteAudit] = []

    def reading(self) -> None:
        """Begin; there are no events to count."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Enclose a write phase."""
        yield

    def wrote(self, audit: WriteAudit) -> None:
        """Keep the audit for whoever reports it."""
        self.audits.append(audit)
