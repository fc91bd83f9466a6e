"""Syncs as the sandbox's log shows them, and which of them answered which event. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from consumer.loadtest.sent import UserEvents
from consumer.sandbox import Record


class Sync(Struct, frozen=True, gc=False):
    """One sync: a read of the profile, and what followed until the next such read of the same user.

    Attributes:
        began: when the read of the profile began.
        read_at: when it ended.
        status: Sesamy's answer to it.
        version: the user's version that was read; None without an answer.
        shown: the end of each answer about the contact, or write to it, and the user's version that it showed.
        wrote: whether a write took effect.
    """

    began: float
    read_at: float
    status: int
    version: int | None
    shown: tuple[tuple[float, int], ...]
    wrote: bool

    def done_at(self, version: int) -> float | None:
        """Return when the contact was seen or made to show this version, or a newer one; None if it was not."""
        return min((end for end, shown in self.shown if shown >= version), default=None)

    @property
    def outcome(self) -> str:
        """What it came to, as `report.Syncs` calls it, for a user who is not skipped."""
        if self.status == 404:
            return "skipped"
        if self.version is None or self.done_at(self.version) is None:
            return "unfinished"
        return "written" if self.wrote else "unchanged"


def syncs_by_user(records: Iterable[Record], users: Mapping[str, UserEvents]) -> dict[str, list[Sync]]:
    """Return every user's syncs, oldest first."""
    return {user_id: list(_syncs(found)) for user_id, found in requests_by_user(records, users).items()}


def requests_by_user(records: Iterable[Record], users: Mapping[str, UserEvents]) -> dict[str, list[Record]]:
    """Return the requests about each user: those about a contact are about the user whose address it has."""
    owners = {user.address: user_id for user_id, user in users.items() if user.address}
    requests: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        user_id = owners.get(record.address or "", record.user_id)
        if user_id is not None:
            requests[user_id].append(record)
    return requests


def _syncs(records: Sequence[Record]) -> Iterator[Sync]:
    read: Record | None = None
    shown: list[tuple[float, int]] = []
    wrote = False
    for record in sorted(records, key=lambda record: record.start):
        if record.operation == "get_user":
            if read is not None:
                yield _sync(read, shown, wrote=wrote)
            read, shown, wrote = record, [], False
        elif record.api == "mailmojo":
            wrote |= record.change is not None
            # A write that took effect shows, whatever became of its answer; a read only by its answer.
            if record.user_version is not None and (record.change is not None or record.status == 200):
                shown.append((record.end, record.user_version))
    if read is not None:
        yield _sync(read, shown, wrote=wrote)


def _sync(read: Record, shown: Sequence[tuple[float, int]], *, wrote: bool) -> Sync:
    version = read.user_version if read.status == 200 else None
    return Sync(read.start, read.end, read.status, version, tuple(shown), wrote)


class Answered(Struct, frozen=True, gc=False):
    """An event that a sync answered: when it was to be sent, and when that sync was through with it."""

    meant_at: float
    done_at: float


def answers(user: UserEvents, syncs: Sequence[Sync]) -> list[Answered | None]:
    """Return for each of a user's events when it was done, or None.

    It is done at the end of the first answer of Mailmojo that shows the user's version of the event, or a newer one,
    in the first sync that can have been for it: one that began when the event had been sent. Events that waited
    together are all done by the one sync that answered them; a contact that already shows the version counts as much
    as one that is made to. For a user whom a sync skips it is the end of the read of the profile that says so.
    """
    begins = [sync.began for sync in syncs]
    return [_answer(user, number, syncs, bisect_left(begins, sent_at)) for number, sent_at in enumerate(user.sent_at)]


def _answer(user: UserEvents, number: int, syncs: Sequence[Sync], first: int) -> Answered | None:
    for position in range(first, len(syncs)):
        sync = syncs[position]
        skipped = sync.status == 404 or (user.skipped and sync.status == 200)
        done_at = sync.read_at if skipped else sync.done_at(user.versions[number])
        if done_at is not None:
            return Answered(user.meant_at[number], done_at)
    return None
