"""What is measured: loads as frozen values, and the line that nothing can beat under them."""

import random
from collections.abc import Sequence

from msgspec import Struct

from consumer.sandbox.population import Seed
from tests.benchmarks.fake_users import USERS

ROUND_TRIPS = 5
"""Calls of a sync that follow one another: contracts and entitlements come side by side."""

_HOT_USERS = 20


class Load(Struct, frozen=True, kw_only=True):
    """Events that are all in the topic at the same moment.

    Attributes:
        latency: seconds that each response takes.
        width: syncs at a time in one instance.
        events: how many.
        users: how many users they are about, each in turn.
        hot: 80 % of the events, drawn at random, are about 20 users.
        instances: processes of a contestant, in one group; None: as many as the machine has cores.
    """

    latency: float
    width: int = 64
    events: int
    users: int = len(USERS)
    hot: bool = False
    instances: int | None = 1

    @property
    def name(self) -> str:
        """What `--load` takes."""
        parts = [f"{1e3 * self.latency:g}ms"]
        parts += [str(self.width)] if self.width != 64 else []
        parts += ["hot"] if self.hot else []
        return "-".join(parts if self.instances == 1 else [*parts, "fleet"])

    @property
    def title(self) -> str:
        """The head of its column."""
        title = f"{1e3 * self.latency:g} ms, {self.width}"
        if self.hot:
            return f"{title}, 80 % of {self.events:,} events on {_HOT_USERS} users"
        return title if self.users == len(USERS) else f"{title}, {self.users} users"

    def ideal_rate(self, instances: int) -> float | None:
        """Return the events a second of so many instances at no cost but the latency; None where that is no bound."""
        if not self.latency or self.hot:
            return None
        return min(instances * self.width, self.users) / (ROUND_TRIPS * self.latency)

    def sequence(self) -> Sequence[Seed]:
        """Return the user of each event, the same at every call."""
        if not self.hot:
            return [USERS[number % self.users] for number in range(self.events)]
        dice = random.Random(1)
        return [
            USERS[dice.randrange(_HOT_USERS) if dice.random() < 0.8 else dice.randrange(_HOT_USERS, self.users)]
            for _ in range(self.events)
        ]


def loads(scale: float = 1.0) -> list[Load]:
    """Return all loads, `scale` times as long."""

    def events(number: int) -> int:
        return max(1, round(scale * number))

    return [
        Load(latency=0, events=events(2_500)),
        Load(latency=0.01, events=events(2_500)),
        Load(latency=0.1, events=events(640)),
        Load(latency=0.01, events=events(2_000), hot=True),
        Load(latency=0.01, width=256, events=events(2_500)),
        Load(latency=0.1, width=256, events=events(1_000), users=100),
        Load(latency=0, events=events(4_000), instances=None),
        Load(latency=0.01, events=events(4_000), instances=None),
        Load(latency=0.1, events=events(1_280), instances=None),
    ]
