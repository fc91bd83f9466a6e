"""What a run is judged by: what was sent, what the fakes logged, and what the group had committed, and when.

Nothing of it comes from the program: not its metrics, its status or its log.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from consumer.sandbox import Record, RequestLog
from consumer.stream import offset_map
from tests.chaos.commits import Observed
from tests.chaos.events import Sent

Poisoned: TypeAlias = Mapping[str, str]
"""Users that always fail, and the reason of the dead letter that each must end in."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record of the dead-letter topic. `at` is monotonic seconds, when it was produced."""

    user_id: str
    partition: int
    offset: int
    reason: str
    at: float


class Edit(Struct, frozen=True):
    """A marketer's edit of a contact: a new tag, at monotonic seconds."""

    address: str
    tag: str
    at: float


class Sync(Struct, frozen=True):
    """One sync as the fakes saw it: a read of the profile, and what the contact showed before the next such read.

    `shown` has the end of each answer about the contact, or of a write to it, and the user's version it carried.
    """

    began: float
    shown: tuple[tuple[float, int], ...]

    def done_at(self, version: int) -> float | None:
        """Return when the contact was seen or made to show this version, or a newer one; None if it was not."""
        return min((end for end, shown in self.shown if shown >= version), default=None)


class Evidence(Struct, frozen=True, kw_only=True):
    """All of it. Times are monotonic seconds, one clock for all.

    Attributes:
        addresses: of every user's contact, in lower case.
        final: by user, the version that the contact shows at the end; None without a contact.
        observed: the group's commits, each when it was first seen.
        lost: users whose contact may keep an older state: a process that wrote too late was killed before it could ask
            for a sync of them (docs/guarantees.md, P2).
    """

    sent: Sequence[Sent]
    addresses: Mapping[str, str]
    final: Mapping[str, int | None]
    log: RequestLog
    observed: Sequence[Observed]
    letters: Sequence[DeadLetter] = ()
    edits: Sequence[Edit] = ()
    lost: Collection[str] = ()

    def syncs(self) -> dict[str, list[Sync]]:
        """Return every user's syncs, oldest first."""
        users = {address: user_id for user_id, address in self.addresses.items()}
        requests: defaultdict[str, list[Record]] = defaultdict(list)
        for record in self.log.records:
            user_id = users.get(record.address or "", record.user_id)
            if user_id is not None:
                requests[user_id].append(record)
        return {user_id: list(_syncs(records)) for user_id, records in requests.items()}

    def claims(self) -> Iterator[tuple[Sent, float]]:
        """Yield each event that a commit, or the map in its metadata, first said was done, and when that was seen."""
        by_partition: defaultdict[int, dict[int, Sent]] = defaultdict(dict)
        for sent in self.sent:
            by_partition[sent.partition][sent.offset] = sent
        for observed in self.observed:
            left = by_partition[observed.partition]
            above = offset_map.decode(observed.metadata, observed.offset)
            for offset in [offset for offset in left if offset < observed.offset or offset in above]:
                yield left.pop(offset), observed.at


def _syncs(records: Iterable[Record]) -> Iterator[Sync]:
    began: float | None = None
    shown: list[tuple[float, int]] = []
    for record in sorted(records, key=lambda record: record.start):
        if record.operation == "get_user":
            if began is not None:
                yield Sync(began, tuple(shown))
            began, shown = record.start, []
        elif record.api == "mailmojo" and record.user_version is not None:
            shown.append((record.end, record.user_version))
    if began is not None:
        yield Sync(began, tuple(shown))
