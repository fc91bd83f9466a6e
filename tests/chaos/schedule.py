"""The faults of a run, drawn from its seed before it begins: frozen values, and the seed brings all of them back."""

import random
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from consumer.sandbox import Rule

INSTANCES: Final = ("a", "b", "c")
GUEST: Final = "d"
"""The name of an instance that joins for a while."""

Api: TypeAlias = Literal["sesamy", "mailmojo"]

_SPIKE = 0.6
"""Seconds at most that a request takes in a spike: a GET and a write must end within a revoke's budget."""


class Kill(Struct, frozen=True, tag=True):
    """SIGKILL; a new process takes the place `back` seconds later."""

    at: float
    instance: str
    back: float


class Freeze(Struct, frozen=True, tag=True):
    """SIGSTOP, and SIGCONT when the session has long run out."""

    at: float
    instance: str
    lasts: float


class Leave(Struct, frozen=True, tag=True):
    """SIGTERM; a new process takes the place `back` seconds after the old one ended."""

    at: float
    instance: str
    back: float


class Join(Struct, frozen=True, tag=True):
    """A further instance that stays for a while and leaves in order."""

    at: float
    lasts: float


class BrokerDown(Struct, frozen=True, tag=True):
    """The broker is killed, and started again after a while."""

    at: float
    lasts: float


class Throttle(Struct, frozen=True, tag=True):
    """A share of an API's requests is answered 429, which asks to wait a second in the way that `how` says."""

    at: float
    api: Api
    how: str
    lasts: float


class Trouble(Struct, frozen=True, tag=True):
    """The fakes misbehave by a rule."""

    at: float
    rule: Rule


class TokensRevoked(Struct, frozen=True, tag=True):
    """Every Sesamy token issued so far is wrong from now on."""

    at: float


Fault: TypeAlias = Kill | Freeze | Leave | Join | BrokerDown | Throttle | Trouble | TokensRevoked

THROTTLES: Final[dict[Api, tuple[str, ...]]] = {
    "sesamy": ("body", "seconds", "date"),
    "mailmojo": ("seconds", "date", "body", "headers", "silent"),
}
"""How a 429 may say when to come back (`consumer.sandbox.Answers`)."""


class Schedule(Struct, frozen=True, kw_only=True):
    """A run: its faults in order of time, and its load.

    Attributes:
        seconds: how long users change; every fault begins in this time.
        rate: changes a second.
        token_lifetime: seconds until a Sesamy token expires.
    """

    seed: int
    seconds: float
    rate: float
    token_lifetime: float
    faults: tuple[Fault, ...]


def draw(seed: int, seconds: float, session: float) -> Schedule:
    """Draw a run of that length; every kind of fault is in it, in an order of the seed's."""
    dice = random.Random(seed)
    faults: list[Fault] = []
    faults += _to_processes(dice, seconds, session)
    faults += _to_requests(dice, seconds)
    faults.append(BrokerDown(round(dice.uniform(0.2, 0.8) * seconds, 2), round(dice.uniform(0.2, 3), 2)))
    return Schedule(
        seed=seed,
        seconds=seconds,
        rate=dice.choice((10.0, 20.0, 30.0)),
        token_lifetime=dice.choice((3.0, 6.0, 12.0)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _to_processes(dice: random.Random, seconds: float, session: float) -> Iterator[Fault]:
    kinds = ["kill", "kill", "freeze", "leave", "join"]
    dice.shuffle(kinds)
    victims = [*INSTANCES, dice.choice(INSTANCES)]
    dice.shuffle(victims)
    for kind, at in zip(kinds, _times(dice, len(kinds), seconds), strict=True):
        match kind:
            case "kill":
                yield Kill(at, victims.pop(), round(dice.uniform(0, 2), 2))
            case "freeze":
                yield Freeze(at, victims.pop(), round(session + dice.uniform(1, 4), 2))
            case "leave":
                yield Leave(at, victims.pop(), round(dice.uniform(0, 2), 2))
            case _:
                yield Join(at, round(dice.uniform(4, 8), 2))


def _to_requests(dice: random.Random, seconds: float) -> Iterator[Fault]:
    rules = [
        Rule(delay=round(dice.uniform(0.2, _SPIKE), 2), lasts=round(dice.uniform(1, 4), 2)),
        Rule(api="sesamy", status=dice.choice((500, 502, 503, 504)), rate=0.5, lasts=round(dice.uniform(0.5, 2), 2)),
        Rule(api="mailmojo", status=dice.choice((500, 502, 503, 504)), rate=0.5, lasts=round(dice.uniform(0.5, 2), 2)),
        Rule(api="mailmojo", status=dice.choice((500, 503)), stage="after", rate=0.3, lasts=2),
        Rule(cut=True, stage="before", rate=round(dice.uniform(0.1, 0.5), 2), lasts=2),
        Rule(cut=True, stage="after", rate=round(dice.uniform(0.1, 0.5), 2), lasts=2),
        Rule(api="sesamy", status=401, lasts=round(dice.uniform(0.2, 3), 2)),
        Rule(api="mailmojo", status=dice.choice((401, 403)), lasts=round(dice.uniform(0.2, 3), 2)),
        Rule(api="token", status=dice.choice((401, 500, 503)), lasts=round(dice.uniform(0.2, 3), 2)),
    ]
    storms: list[tuple[Api, str]] = [(api, dice.choice(how)) for api, how in THROTTLES.items()]
    revocations = 2
    times = _times(dice, len(rules) + len(storms) + revocations, seconds)
    dice.shuffle(times)
    for rule in rules:
        yield Trouble(times.pop(), rule)
    for api, how in storms:
        yield Throttle(times.pop(), api, how, round(dice.uniform(0.2, 2), 2))
    for _ in range(revocations):
        yield TokensRevoked(times.pop())


def _times(dice: random.Random, count: int, seconds: float) -> list[float]:
    """Return so many moments, spread over the time, each somewhere in its slice."""
    return [round((number + dice.random()) * seconds / count, 2) for number in range(count)]
