"""What a load test leaves behind to be judged. Times are monotonic seconds, one clock for all processes."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from consumer.loadtest.instances import Metrics
from consumer.loadtest.machine import Machine
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.samples import Sample
from consumer.loadtest.sent import Sent
from consumer.sandbox import RequestLog


class Letter(Struct, frozen=True):
    """A dead letter: its reason, its user, and which of the user's events it is; -1 for one that asked for no sync."""

    reason: str
    user_id: str
    number: int


class Ended(Struct, frozen=True, kw_only=True):
    """An instance after its end.

    Attributes:
        exit_code: negative for a signal.
        died: whether it ended before it was told to.
        metrics: the last that were seen of it.
    """

    name: str
    exit_code: int
    died: bool
    metrics: Metrics


class Evidence(Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        published_at: when the last event was stored.
        lateness: seconds by which the latest event was stored after its due time; None flat out.
        committed: whether the group's commits reached the topic's end in time.
        records: how many the topic held in the end.
        lag: how many of them no commit covers.
        log: the requests that the sandbox got.
    """

    date: str
    plan: LoadPlan
    machine: Machine
    sent: Sent
    instances: Sequence[Ended]
    samples: Sequence[Sample]
    published_at: float
    lateness: float | None
    committed: bool
    records: int
    lag: int
    log: RequestLog = field(default_factory=RequestLog)
    letters: Sequence[Letter] = ()


def answered_by_letters(letters: Sequence[Letter]) -> Mapping[str, int]:
    """Return by user the newest event that became a dead letter: it stands for the ones before it, too."""
    newest: dict[str, int] = {}
    for letter in letters:
        newest[letter.user_id] = max(letter.number, newest.get(letter.user_id, -1))
    return newest
