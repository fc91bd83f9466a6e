"""What a seed stands for: instances, settings, load and faults, drawn before the world begins, as frozen values."""

import random
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from consumer.sandbox import Rule
from tests.simulation.apis import CUT_BODY

NAMES: Final = ("a", "b", "c", "d", "e")

_COMMON_ERRORS: Final = {"produce": 6, "fetch": 6, "commit": 27, "join": 15, "heartbeat": 27, "sync": 27}
"""Kafka's error codes: 6 not the leader, 15 coordinator not available, 27 a rebalance is in progress."""


class Kill(Struct, frozen=True, tag=True):
    """A process is killed; a new one takes its place `back` seconds later."""

    at: float
    instance: str
    back: float


class Freeze(Struct, frozen=True, tag=True):
    """A process stands still, as after SIGSTOP."""

    at: float
    instance: str
    lasts: float


class FreezeAtWrite(Struct, frozen=True, tag=True):
    """A process stands still at its next write, after the check of its lease and before the first byte."""

    at: float
    instance: str
    lasts: float


class Leave(Struct, frozen=True, tag=True):
    """A process is asked to stop; a new one takes its place `back` seconds after it ended."""

    at: float
    instance: str
    back: float


class Join(Struct, frozen=True, tag=True):
    """A further instance runs for a while, then stops in order."""

    at: float
    instance: str
    lasts: float


class NodeDown(Struct, frozen=True, tag=True):
    """A broker stops; others take over, if there are any and `fails_over`."""

    at: float
    node: int
    lasts: float
    fails_over: bool


class NodeFrozen(Struct, frozen=True, tag=True):
    """A broker stands still: its connections stay open and nothing is answered."""

    at: float
    node: int
    lasts: float


class Cut(Struct, frozen=True, tag=True):
    """Nothing passes between an instance and the brokers; what was sent arrives afterwards."""

    at: float
    instance: str
    lasts: float


class Forgotten(Struct, frozen=True, tag=True):
    """The open connections of an instance to the brokers die, and neither side is told."""

    at: float
    instance: str


class CoordinatorMoves(Struct, frozen=True, tag=True):
    """Another node coordinates the group, which it has to load first."""

    at: float
    loading: float


class CallFails(Struct, frozen=True, tag=True):
    """The next calls of a kind to the brokers fail."""

    at: float
    call: str
    effect: Literal["error", "hang", "break", "break after", "slow"]
    times: int
    seconds: float = 0.0
    error: int = 0


class AbortedTransaction(Struct, frozen=True, tag=True):
    """A producer begins a transaction in every partition and aborts it: offsets that no reader gets."""

    at: float
    lasts: float


class Trouble(Struct, frozen=True, tag=True):
    """An API misbehaves by a rule."""

    at: float
    rule: Rule


class ApisUnreachable(Struct, frozen=True, tag=True):
    """An instance cannot connect to either API."""

    at: float
    instance: str
    lasts: float


class TokensRevoked(Struct, frozen=True, tag=True):
    """Every Sesamy token issued so far is wrong from now on."""

    at: float


Fault: TypeAlias = (
    Kill
    | Freeze
    | FreezeAtWrite
    | Leave
    | Join
    | NodeDown
    | NodeFrozen
    | Cut
    | Forgotten
    | CoordinatorMoves
    | CallFails
    | AbortedTransaction
    | Trouble
    | ApisUnreachable
    | TokensRevoked
)


class Scenario(Struct, frozen=True, kw_only=True):
    """One world.

    Attributes:
        seconds: how long users change; every fault begins in this time.
        events: how many changes there are.
        poisoned: whether two users always fail, one of them with a refusal.
        settings: of every instance, beside those that lead to the simulated APIs and brokers.
        skew: seconds by which the wall clocks of instances differ, at most.
    """

    seed: int
    seconds: float
    instances: int
    users: int
    events: int
    partitions: int
    nodes: int
    poisoned: bool
    settings: Mapping[str, str]
    skew: float
    faults: tuple[Fault, ...]


def draw(seed: int, *, instances: int | None = None, faults: int | None = None) -> Scenario:
    """Draw a world; the number of instances and faults can be given."""
    dice = random.Random(f"scenario {seed}")
    seconds = 60.0
    session = dice.choice((6.0, 8.0, 12.0))
    count = instances or dice.choice((1, 2, 2, 3, 3, 3, 4, 5))
    nodes = dice.choice((1, 1, 3))
    number = dice.randrange(13) if faults is None else faults
    drawn = list(_faults(dice, number, names=NAMES[:count], seconds=seconds, session=session, nodes=nodes))
    return Scenario(
        seed=seed,
        seconds=seconds,
        instances=count,
        users=dice.choice((20, 60, 60)),
        events=dice.choice((60, 100, 150)),
        partitions=dice.choice((1, 3, 6, 12)),
        nodes=nodes,
        poisoned=dice.random() < 0.3,
        settings={
            "KAFKA_SESSION_TIMEOUT": f"{session:g}",
            "SYNC_CONCURRENCY": dice.choice(("2", "8", "64")),
            "SYNC_LINGER": dice.choice(("0.1", "0.5", "2")),
            "SYNC_COALESCE": dice.choice(("true", "true", "true", "false")),
            "SYNC_MAX_PENDING": dice.choice(("20", "1000", "100000")),
            "SYNC_RETRY_BASE": "0.2",
            "SYNC_RETRY_CAP": "2",
            "SHUTDOWN_TIMEOUT": "10",
            **dice.choice(_QUOTAS),
        },
        skew=dice.choice((0.0, 2.0, 600.0)),
        faults=tuple(sorted(drawn, key=lambda fault: fault.at)),
    )


_QUOTAS: Final = (
    {
        "SESAMY_REQUESTS_PER_MINUTE": "3000",
        "SESAMY_BURST": "40",
        "MAILMOJO_REQUESTS_PER_SECOND": "30",
        "MAILMOJO_BURST": "20",
    },
    {
        "SESAMY_REQUESTS_PER_MINUTE": "60000",
        "SESAMY_BURST": "1000",
        "MAILMOJO_REQUESTS_PER_SECOND": "1000",
        "MAILMOJO_BURST": "1000",
    },
)


def _faults(
    dice: random.Random, count: int, *, names: tuple[str, ...], seconds: float, session: float, nodes: int
) -> Iterator[Fault]:
    for number in range(count):
        at = round((number + dice.random()) * seconds / count, 3)
        name = dice.choice(names)
        match dice.randrange(20):
            case 0 | 1:
                yield Kill(at, name, round(dice.uniform(0, 3), 2))
            case 2 | 3:
                yield Freeze(at, name, round(dice.choice((dice.uniform(0.1, 3), session + dice.uniform(0, 5))), 2))
            case 4:
                yield FreezeAtWrite(at, name, round(session + dice.uniform(1, 5), 2))
            case 5 | 6:
                yield Leave(at, name, round(dice.uniform(0, 3), 2))
            case 7:
                yield Join(at, f"x{number}", round(dice.uniform(4, 12), 2))
            case 8:
                yield NodeDown(at, dice.randint(1, nodes), round(dice.uniform(0.2, 8), 2), dice.random() < 0.5)
            case 9:
                yield NodeFrozen(at, dice.randint(1, nodes), round(dice.uniform(0.2, session), 2))
            case 10:
                yield Cut(at, name, round(dice.uniform(0.5, session * 1.5), 2))
            case 11:
                yield dice.choice((Forgotten(at, name), CoordinatorMoves(at, round(dice.uniform(0, 2), 2))))
            case 12:
                yield _call_that_fails(dice, at)
            case 13:
                yield AbortedTransaction(at, round(dice.uniform(0, 3), 2))
            case 14:
                yield dice.choice((ApisUnreachable(at, name, round(dice.uniform(0.5, 6), 2)), TokensRevoked(at)))
            case _:
                yield Trouble(at, _rule(dice))


def _call_that_fails(dice: random.Random, at: float) -> CallFails:
    call = dice.choice(tuple(_COMMON_ERRORS))
    effects: tuple[Literal["error", "hang", "break", "break after", "slow"], ...] = (
        "error",
        "hang",
        "break",
        "break after",
        "slow",
    )
    effect = dice.choice(effects)
    return CallFails(
        at,
        call,
        effect,
        times=dice.choice((1, 1, 3)),
        seconds=round(dice.uniform(0.1, 4), 2) if effect == "slow" else 0.0,
        error=_COMMON_ERRORS[call] if effect == "error" else 0,
    )


def _rule(dice: random.Random) -> Rule:
    """Draw what goes wrong at an API: each kind of `docs/cases.md` that one answer can show."""
    lasts = round(dice.uniform(0.5, 6), 2)
    rate = dice.choice((0.1, 0.5, 1.0))
    operation = dice.choice((None, "get_user", "list_contracts", "get_contact", "patch_contact", "post_subscriber"))
    sesamy = dice.choice((None, "get_user", "list_contracts", "list_entitlements", "list_transactions"))
    status = dice.choice((500, 502, 503, 504, 429, 401, 403, 404, 408))
    bodies = ("", "null", "[", '{"data": null, "error": {"code": "internal"}}', '{"data": [], "meta": {"total": 3}}')
    rules = (
        Rule(delay=round(dice.uniform(0.2, 1.5), 2), rate=rate, lasts=lasts),
        Rule(operation=operation, status=status, rate=rate, lasts=lasts),
        Rule(operation=operation, status=dice.choice((500, 503)), stage="after", rate=rate, lasts=lasts),
        Rule(cut=True, stage="before", rate=rate, lasts=lasts),
        Rule(cut=True, stage="after", rate=rate, lasts=lasts),
        Rule(api=dice.choice(("sesamy", "mailmojo")), status=429, rate=rate, lasts=lasts),
        Rule(api="token", status=dice.choice((401, 500, 503)), lasts=lasts),
        Rule(api="sesamy", operation=sesamy, method="GET", body=dice.choice(bodies), rate=rate, lasts=lasts),
        Rule(body="<html>maintenance</html>", content_type="text/html", rate=rate, lasts=lasts),
        Rule(api="mailmojo", body=dice.choice(("", "<html></html>")), stage="after", rate=rate, lasts=lasts),
        Rule(headers={CUT_BODY: "1"}, rate=rate, lasts=lasts),
    )
    return dice.choice(rules)
