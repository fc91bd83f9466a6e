"""What a sync is told by whoever runs it: when its snapshot begins, and whether it may still write."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from msgspec import Struct
from msgspec.structs import asdict

from consumer.clients.errors import Api
from consumer.clients.guard import RequestGuard
from consumer.clients.transport import Turn
from consumer.sync.calls import Call


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


class Flight(RequestGuard, Protocol):
    """One sync under way, as its runner sees it. It guards each of the sync's requests (`sending`).

    A sync waits, then reads, then writes. It may be cancelled at any point, except while a write is under way.
    `sending` raises `LeaseLost` for a write that must not be sent any more.
    """

    def reading(self) -> None:
        """Called right before the first read: events that arrived until now are answered by this sync (P3)."""

    def needs(self, call: Call, /) -> None:
        """Called before the sync waits for a permit, or for another task, in order to make this call.

        May raise an exception that ends the sync: the call is known to fail for everybody just now.
        """

    def passed(self, call: Call, /) -> None:
        """Called when a call that is not sent in a turn of the sync did what it was for."""

    async def compare(self, turn: Turn, error: Exception, /) -> None:
        """Called in the turn of a read that failed: may make the same call for another user, to compare."""

    def wrote(self, audit: WriteAudit) -> None:
        """Called after each write that was accepted."""


class LoneFlight:
    """A flight outside any group: the service is stopped, so nobody else can write."""

    def __init__(self) -> None:
        self.audits: list[WriteAudit] = []

    def reading(self) -> None:
        """Begin; there are no events to count."""

    def sending(self, _api: Api, _operation: str, /, *, writes: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's name
        """Let everything be sent."""
        return nullcontext()

    def answered(self, _api: Api, _operation: str, _body: bytes, /) -> None:
        """Take no note: there are no other users to compare with."""

    def needs(self, _call: Call, /) -> None:
        """Let the sync go on: nothing is known of other users."""

    def passed(self, _call: Call, /) -> None:
        """Take no note."""

    async def compare(self, _turn: Turn, _error: Exception, /) -> None:
        """Compare with nobody: the error is reported as it is."""

    def wrote(self, audit: WriteAudit) -> None:
        """Keep the audit for whoever reports it."""
        self.audits.append(audit)
