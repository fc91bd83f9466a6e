"""The report: figures that stand for themselves, as one tree that is written and read as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from consumer.loadtest.machine import Machine
from consumer.loadtest.plan import LoadPlan
from consumer.settings import SettingsError

VERSION: Final = 1
"""Of this tree. Keys may be added; with any other change it grows."""


class Percentiles(Struct, frozen=True, kw_only=True):
    """Of `count` values the ones that 50, 90 and 99 % do not exceed, and the largest."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


class Events(Struct, frozen=True, kw_only=True):
    """What became of the events. The first five add up to `published`.

    Attributes:
        synced: a sync that began after the event was sent has brought the contact to its state, or seen it there.
        skipped: one has read that the user is a guest, has no address, or is unknown.
        unread: no request is needed: tombstones, other types or vendors, guests by their id.
        dead_lettered: in the dead-letter topic, or older than such an event of the same user.
        lost: none of these.
        changed: changes of users at Sesamy; events that waited together to be sent share one.
        outcomes: by the program's own count (`events_total`).
    """

    published: int
    synced: int
    skipped: int
    unread: int
    dead_lettered: int
    lost: int
    users: int
    changed: int
    outcomes: dict[str, int]


class Throughput(Struct, frozen=True, kw_only=True):
    """Seconds and rates a second.

    Attributes:
        replay_seconds: from the first event's due time until the last one was stored.
        seconds: from the first event's due time until the last was stored and the last sync that answered one ended.
        events: all events but the lost ones, over `seconds`.
        syncs: syncs that came to their end, over `seconds`.
        requests: requests of both APIs, over `seconds`.
        lateness: by how much the latest event was stored after its due time; None flat out.
    """

    replay_seconds: float
    seconds: float
    events: float
    syncs: float
    requests: float
    lateness: float | None


class Syncs(Struct, frozen=True, kw_only=True):
    """Syncs by the log: each begins with a read of the profile.

    `unfinished` ones failed or were given up: they neither saw nor made the contact show what they had read.
    """

    written: int
    unchanged: int
    skipped: int
    unfinished: int


class Requests(Struct, frozen=True, kw_only=True):
    """Requests of one kind: how many by the sandbox's log and how many by the program's own count."""

    api: str
    operation: str
    status: str
    log: int
    program: int


class PerUser(Struct, frozen=True, kw_only=True):
    """Requests about one user, over all users of whom there were any."""

    api: str
    mean: float
    requests: Percentiles


class QuotaUse(Struct, frozen=True, kw_only=True):
    """An API's quota and what became of it.

    Attributes:
        used: requests over what the quota allows from the first request to the last, bursts included.
        excess: by how many requests the worst window exceeds burst + rate * t; below 0: by how many it stays under.
        allowed: what `excess` may be, for the ways of requests differ by `plan.JITTER`.
        refused: answers 429.
    """

    api: str
    per_second: float
    burst: float
    used: float
    excess: float
    allowed: float
    refused: int


class Process(Struct, frozen=True, kw_only=True):
    """One process during the run; None where the system has no /proc.

    Attributes:
        cpu_seconds: from the first sample to the last.
        cores: `cpu_seconds` over the time between: 1 is one core all the time.
        peak_rss_mib: the most memory it ever held.
    """

    name: str
    cpu_seconds: float | None
    cores: float | None
    peak_rss_mib: float | None


class Instance(Struct, frozen=True, kw_only=True):
    """One instance, by its own metrics and its end."""

    process: Process
    exit_code: int
    died: bool
    events: int
    requests: int
    rebalances: int
    retries: int
    violations: int


class Agreement(Struct, frozen=True, kw_only=True):
    """Something counted twice: by the program, and by what it acted on."""

    what: str
    program: int
    seen: int
    agrees: bool


class Series(Struct, frozen=True, kw_only=True):
    """How it went. Each number is of `width` seconds, the first ones from the first event's due time on.

    Attributes:
        published: events sent that ask for a sync, a second.
        done: events answered by one, a second.
        requests: requests a second, by API; those for tokens left out.
        lag: records that no commit covers, at the most; None where no sample was taken.
        latency_p50, latency_p99: of the events due in that time, in seconds; None without any.
        cores: of each process; None as above.
        rss_mib: of each process; None as above.
    """

    width: float
    published: list[float]
    done: list[float]
    requests: dict[str, list[float]]
    lag: list[int | None]
    latency_p50: list[float | None]
    latency_p99: list[float | None]
    cores: dict[str, list[float | None]]
    rss_mib: dict[str, list[float | None]]


class Report(Struct, frozen=True, kw_only=True):
    """One load test.

    Attributes:
        failures: why it did not hold; none when it did.
        latency: None where nothing was timed.
        notes: what a reader should know before believing the times.
    """

    version: int = VERSION
    date: str
    failures: Sequence[str]
    load: LoadPlan
    machine: Machine
    events: Events
    throughput: Throughput
    latency: Percentiles | None
    syncs: Syncs
    requests: Sequence[Requests]
    per_user: Sequence[PerUser]
    quotas: Sequence[QuotaUse]
    instances: Sequence[Instance]
    others: Sequence[Process]
    agreement: Sequence[Agreement]
    series: Series
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.failures


class _Versioned(Struct):
    version: int


def to_json(report: Report) -> bytes:
    """Return the report as JSON, for a file."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def builtins(report: Report) -> object:
    """Return the report as what JSON can hold."""
    return msgspec.to_builtins(report)


def read(path: Path) -> Report:
    """Return the report of a file that an earlier load test wrote.

    Raises:
        SettingsError: it cannot be read, or is no such report.
    """
    try:
        text = path.read_bytes()
        found = msgspec.json.decode(text, type=_Versioned).version
        if found != VERSION:
            raise SettingsError(f"--compare {path}: a report of version {found}; this program reads version {VERSION}")
        return msgspec.json.decode(text, type=Report)
    except OSError as error:
        raise SettingsError(f"--compare {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsError(f"--compare {path}: no report of a load test: {error}") from None
