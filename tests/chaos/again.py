"""What was done more than once, and how much of that a fault excuses. For loads of one event per user."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from tests.chaos.evidence import Evidence

COMMIT_INTERVAL: Final = 1.0
"""Seconds: commits are a tenth of a second apart, and one may take several on a machine with other things to do."""


class Strike(Struct, frozen=True):
    """An instance was killed or frozen, at a monotonic second, with these partitions."""

    at: float
    partitions: frozenset[int]


class Again(Struct, frozen=True, kw_only=True):
    """What was done again, over all events.

    Attributes:
        events: how many were done more than once.
        excused: how many were open at a strike, or done within one commit interval before it: the bound.
        unexcused: those of `events` that no strike explains, in words.
        after_record: those begun again after a commit or its map had said that they are done, in words (P4: none).
    """

    events: int
    excused: int
    unexcused: Sequence[str]
    after_record: Sequence[str]


def done_again(evidence: Evidence, strikes: Sequence[Strike] = ()) -> Again:
    """Compare what was done again with what the strikes excuse."""
    syncs = evidence.syncs()
    recorded = {sent.user_id: seen for sent, seen in evidence.claims()}
    events, excused = 0, 0
    unexcused: list[str] = []
    after_record: list[str] = []
    for sent in evidence.sent:
        mine = syncs.get(sent.user_id, [])
        done = sorted(end for sync in mine if (end := sync.done_at(sent.version)) is not None)
        open_at = sum(
            sent.partition in strike.partitions
            and any(sync.began <= strike.at for sync in mine)
            and (not done or done[0] > strike.at - COMMIT_INTERVAL)
            for strike in strikes
        )
        excused += open_at
        events += len(done) > 1
        if len(done) > 1 and not open_at:
            unexcused.append(f"{sent.user_id} ({sent.partition}) at {', '.join(f'{end:.3f}' for end in done)}")
        seen = recorded.get(sent.user_id)
        if seen is not None and any(sync.began > seen for sync in mine):
            after_record.append(f"{sent.user_id} ({sent.partition}:{sent.offset}), seen at {seen:.3f}")
    return Again(events=events, excused=excused, unexcused=unexcused, after_record=after_record)
