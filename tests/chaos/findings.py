"""The promises of `docs/contract.md`, asked of a run's evidence; in a right run nothing is found."""

from collections.abc import Collection, Iterator

from consumer.sandbox import Quota, Record
from consumer.sandbox.faults import ApiName
from tests.chaos.evidence import Evidence, Poisoned

_SHOWN = 5
_WRITE_TIMEOUT = 5.0
_JITTER = 0.5
"""Seconds by which a request may be late on a busy machine: so many more may come at once."""


def findings(
    evidence: Evidence,
    poisoned: Poisoned | None = None,
    quotas: dict[ApiName, Quota] | None = None,
    *,
    late: Collection[str] = (),
) -> list[str]:
    """Return every promise that the run broke, in words.

    `late` are addresses of contacts to which a process wrote that had been frozen between the check of its lease and
    the write: that one write may overwrite newer data (P2), until the user has been synced again.
    """
    poisoned = poisoned or {}
    checks = {
        "P1 committed ahead of the work": ahead_of_the_work(evidence, poisoned),
        "P1 commits went backwards": rewound(evidence),
        "P2 writes of one contact overlap": overlapping(evidence, late),
        "P2 versions of a contact went backwards": backwards(evidence, late),
        "P3 the contact does not show the last version": stale(evidence, poisoned),
        "P4 events were never committed": uncommitted(evidence),
        "P5 dead letters that should not be, or should": wrong_letters(evidence, poisoned),
        "P6 more requests than the quota": over_quota(evidence, quotas or {}),
        "foreign data were damaged": damaged(evidence, late),
        "rules of the references were broken": (f"{rule.operation}: {rule.rule}" for rule in evidence.log.violations),
    }
    return [f"{promise}: {_some(found)}" for promise, texts in checks.items() if (found := list(texts))]


def ahead_of_the_work(evidence: Evidence, poisoned: Poisoned) -> Iterator[str]:
    """Yield events that were called done before a sync that began after them, or a dead letter, was through."""
    syncs = evidence.syncs()
    for sent, seen in evidence.claims():
        done = (
            (end := sync.done_at(sent.version)) is not None and end <= seen
            for sync in syncs.get(sent.user_id, [])
            if sync.began >= sent.at
        )
        if any(done):
            continue
        if sent.user_id in poisoned and any(
            letter.partition == sent.partition and letter.offset >= sent.offset and letter.at <= seen
            for letter in evidence.letters
            if letter.user_id == sent.user_id
        ):
            continue
        yield f"{sent.user_id} v{sent.version} ({sent.partition}:{sent.offset}), sent at {sent.at:.3f}, seen {seen:.3f}"


def rewound(evidence: Evidence) -> Iterator[str]:
    """Yield commits that lie below an earlier one of their partition."""
    newest: dict[int, int] = {}
    for observed in evidence.observed:
        before = newest.get(observed.partition, 0)
        if observed.offset < before:
            yield f"partition {observed.partition} from {before} to {observed.offset} at {observed.at:.3f}"
        newest[observed.partition] = max(before, observed.offset)


def overlapping(evidence: Evidence, late: Collection[str] = ()) -> Iterator[str]:
    """Yield pairs of writes of one contact that were open at once."""
    for earlier, later in evidence.log.overlapping_writes():
        if earlier.address not in late:
            yield f"{_place(earlier)} and {_place(later)}"


def backwards(evidence: Evidence, late: Collection[str] = ()) -> Iterator[str]:
    """Yield pairs of writes of which the later one carried an older state."""
    for earlier, later in evidence.log.backward_writes():
        if later.address not in late:
            yield f"v{earlier.user_version} {_place(earlier)}, then v{later.user_version} {_place(later)}"


def stale(evidence: Evidence, poisoned: Poisoned) -> Iterator[str]:
    """Yield users whose contact does not show their last event."""
    newest = {sent.user_id: sent.version for sent in evidence.sent}
    for user_id, version in newest.items():
        if user_id not in poisoned and user_id not in evidence.lost and evidence.final[user_id] != version:
            yield f"{user_id} is at v{version}, the contact at {evidence.final[user_id]}"


def uncommitted(evidence: Evidence) -> Iterator[str]:
    """Yield partitions whose last event was not reached by a commit."""
    ends = {sent.partition: sent.offset + 1 for sent in sorted(evidence.sent, key=lambda sent: sent.offset)}
    last = {observed.partition: observed.offset for observed in evidence.observed}
    for partition, end in ends.items():
        if last.get(partition, 0) < end:
            yield f"partition {partition} is committed to {last.get(partition)} of {end}"


def wrong_letters(evidence: Evidence, poisoned: Poisoned) -> Iterator[str]:
    """Yield dead letters of users that do not always fail, and last events of those who do without a dead letter."""
    for letter in evidence.letters:
        if poisoned.get(letter.user_id) != letter.reason:
            yield f"{letter.user_id} ({letter.partition}:{letter.offset}) is {letter.reason}"
    newest = {sent.user_id: sent for sent in evidence.sent}
    for user_id in poisoned.keys() & newest.keys():
        if not any(
            letter.user_id == user_id and letter.offset == newest[user_id].offset for letter in evidence.letters
        ):
            yield f"{user_id} has none for its last event"


def over_quota(evidence: Evidence, quotas: dict[ApiName, Quota]) -> Iterator[str]:
    """Yield APIs that got more requests in some window than the account's quota has, whoever sent them."""
    for api, quota in quotas.items():
        excess = evidence.log.excess(api, rate=quota.rate, burst=quota.burst)
        if excess > quota.rate * _JITTER:
            yield f"{api} by {excess:.0f}"


def damaged(evidence: Evidence, late: Collection[str] = ()) -> Iterator[str]:
    """Yield writes that lost foreign data or subscribed who had left.

    Mailmojo has no conditional write: an edit that came while a write phase was open can be lost, no other.
    """
    edits: dict[tuple[str | None, str], float] = {(edit.address, f"tag:{edit.tag}"): edit.at for edit in evidence.edits}
    for record in evidence.log.damaged():
        if record.address in late:
            continue
        for what in record.damage:
            edited = edits.get((record.address, what))
            if edited is None or not record.start - _WRITE_TIMEOUT <= edited <= record.end:
                yield f"{what} {_place(record)}"


def _place(record: Record) -> str:
    return f"{record.operation} {record.number} of {record.address} [{record.start:.3f}, {record.end:.3f}]"


def _some(found: list[str]) -> str:
    more = f" … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more
