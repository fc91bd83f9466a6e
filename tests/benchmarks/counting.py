"""What the sandbox's request log says of a run. Pure: a log in, numbers out."""

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from consumer.sandbox import Record, RequestLog


class Counts(Struct, frozen=True, kw_only=True):
    """One run in numbers.

    Attributes:
        users: how many were to be synced.
        events: how many events they had.
        requests: what all of them took.
        seconds: from the start of the first request to the end of the last one about a user. Not from the first
            write: the time that the first wave takes to get there is work, too.
        calls: requests per user, the least and the most.
        round_trips: requests that followed one another per user, the least and the most.
        order_violations: writes of a contact that overlap, or that carry an older state than the one before.
        redone: syncs beyond one per event.
        lost: users whose contact was not written.
        wrong: requests that break a rule of the references, and writes that did damage.
        served_latency: the median of what a request really took in the sandbox, seconds.
        delays: median and 99th percentile of the seconds from the time at which an event was meant to be sent, to the
            end of its user's last request; None where nothing was sent at a time of its own.
    """

    users: int
    events: int
    requests: int
    seconds: float
    calls: tuple[int, int]
    round_trips: tuple[int, int]
    order_violations: int
    redone: int
    lost: int
    wrong: int
    served_latency: float
    delays: tuple[float, float] | None = None

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


def count(
    log: RequestLog,
    addresses: Mapping[str, str],
    events: Mapping[str, int] | None = None,
    meant_at: Mapping[str, float] | None = None,
) -> Counts:
    """Count a log of nothing but the run.

    Args:
        log: the requests.
        addresses: the user of every contact's address.
        events: how many events a user had; None: one each.
        meant_at: for users with one event, when it was meant to be sent, on the log's monotonic clock.

    Raises:
        ValueError: there is nothing to count.
    """
    writes = log.writes()
    if not writes:
        raise ValueError("no write reached the sandbox")
    by_user: defaultdict[str, list[Record]] = defaultdict(list)
    for record in log.records:
        user_id = record.user_id or addresses.get(record.address or "")
        if user_id is not None:
            by_user[user_id].append(record)
    users = frozenset(addresses.values())
    events = events or dict.fromkeys(users, 1)
    requests = [by_user[user_id] for user_id in users]
    last = {user_id: max(record.end for record in records) for user_id, records in by_user.items()}
    return Counts(
        users=len(users),
        events=sum(events.values()),
        requests=sum(map(len, requests)),
        seconds=max(last.values()) - min(record.start for record in log.records),
        calls=_range(len(records) for records in requests),
        round_trips=_range(in_sequence(records) for records in requests),
        order_violations=len(log.overlapping_writes()) + len(log.backward_writes()),
        redone=sum(max(0, len(_reads(by_user[user_id])) - events[user_id]) for user_id in users),
        lost=len(users - {write.user_id for write in writes}),
        wrong=len(log.violations) + len(log.damaged()),
        served_latency=statistics.median(record.end - record.start for record in log.records),
        delays=_middle_and_end(sorted(last[user] - at for user, at in meant_at.items() if user in last))
        if meant_at
        else None,
    )


def _middle_and_end(delays: Sequence[float]) -> tuple[float, float]:
    return statistics.median(delays), delays[int(0.99 * (len(delays) - 1))]


def in_sequence(records: Collection[Record]) -> int:
    """Return how many of these requests followed one another, at the most: the round trips that one waits for."""
    chain, free_at = 0, float("-inf")
    for record in sorted(records, key=lambda record: record.end):
        if record.start >= free_at:
            chain, free_at = chain + 1, record.end
    return chain


def _reads(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.operation == "get_user"]


def _range(numbers: Iterable[int]) -> tuple[int, int]:
    found = list(numbers)
    return min(found), max(found)
