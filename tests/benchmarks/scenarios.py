"""What is measured: loads as frozen values, and the line that nobody can beat under them."""

import random
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from consumer.sandbox.population import Seed

_CPU_BOUND_RATE = 500.0
"""Events a second to size a load by where no latency bounds it. A guess will do: a run ends when all is done."""


class Scenario(Struct, frozen=True, kw_only=True):
    """Events of users who are all alike, lying in the topic at once, or coming at a pace. Durations are seconds.

    Attributes:
        latency: of every answer of both APIs.
        concurrency: users that the service may sync at a time.
        partitions: of the topic; the users are spread evenly.
        seconds: how long the load keeps the ideal line busy.
        users: how many there are; None: one for each event, as many as `seconds` take.
        events: how many there are, for scenarios with `users`.
        zipf: whether the n-th user has 1/n of the first one's events, instead of an even chance.
        pace: events a second that come for `seconds`; None: all are there at once.
        kind: what every user has bought, a name of `consumer.sandbox.subscriptions.KINDS`.
        contact: what Mailmojo knew of every address before, a name of `consumer.sandbox.population.CONTACTS`.
        calls: requests that one such sync makes; a run fails if the sandbox logged another number.
        round_trips: how many of them follow one another (contracts and entitlements come side by side); checked too.
    """

    latency: float
    concurrency: int = 64
    partitions: int = 8
    seconds: float = 10.0
    users: int | None = None
    events: int = 0
    zipf: bool = False
    pace: float | None = None
    kind: str = "recurring"
    contact: str = "tagged"
    calls: int = 6
    round_trips: int = 5

    @property
    def title(self) -> str:
        """What tells it from other scenarios."""
        name = f"{1e3 * self.latency:g} ms, {self.concurrency} at a time"
        if self.users is not None:
            name += f", {self.events:,} events of {self.users:,} users, {'Zipf' if self.zipf else 'even'}"
        return name if self.pace is None else f"{name}, {self.pace:g} events/s"

    def ideal_rate(self, width: int) -> float | None:
        """Return the events a second with so many users in flight and no other cost.

        None without latency, at a pace, and where users have several events: one sync may answer many.
        """
        if not self.latency or self.pace is not None or self.users is not None:
            return None
        return width / (self.round_trips * self.latency)

    def users_for(self, width: int) -> int:
        """Return how many users keep that many flights busy for `seconds`: whole waves, so that the last is full."""
        if self.users is not None:
            return self.users
        if self.pace is not None:
            return round(self.pace * self.seconds)
        rate = self.ideal_rate(width)
        wanted = self.seconds * (_CPU_BOUND_RATE if rate is None else min(rate, 4 * _CPU_BOUND_RATE))
        return width * max(2, round(wanted / width))

    def population(self, warm_up: int, measured: int) -> tuple[Sequence[Seed], Sequence[Seed]]:
        """Return the users of the warm-up and those that count."""
        seeds = [Seed(1, number, self.kind, self.contact) for number in range(warm_up + measured)]
        return seeds[:warm_up], seeds[warm_up:]

    def sequence(self, users: Sequence[Seed]) -> Sequence[Seed]:
        """Return whose event comes after whose: everybody's once, or drawn, the same at every call."""
        if self.users is None:
            return users
        weights = accumulate(1 / rank if self.zipf else 1 for rank in range(1, len(users) + 1))
        return random.Random(1).choices(users, cum_weights=list(weights), k=self.events)


def default() -> list[Scenario]:
    """Return what is measured when nothing is said: what limits at each latency, a hot user, and half load."""
    return [
        Scenario(latency=0.1, seconds=8),
        Scenario(latency=0.01, seconds=4),
        Scenario(latency=0, seconds=8),
        Scenario(latency=0.01, users=100, events=2_000, zipf=True),
        Scenario(latency=0.01, pace=300, seconds=8),
    ]


def full() -> list[Scenario]:
    """Return everything that the docs show."""
    return [
        *(Scenario(latency=latency, concurrency=64) for latency in (0.1, 0.01, 0)),
        *(Scenario(latency=latency, concurrency=256) for latency in (0.1, 0.01)),
        *(
            Scenario(latency=0.01, users=users, events=5_000, zipf=zipf)
            for users in (100, 1_000, 10_000)
            for zipf in (False, True)
        ),
        Scenario(latency=0.01, pace=300, seconds=15),
        Scenario(latency=0.1, pace=60, seconds=15),
    ]
