"""What is measured: loads as frozen values, and the line that nobody can beat under them."""

from collections.abc import Sequence

from msgspec import Struct

from consumer.sandbox.population import Seed

_CPU_BOUND_RATE = 500.0
"""Events a second to size a load by where no latency bounds it. A guess will do: a run ends when all is done."""


class Scenario(Struct, frozen=True, kw_only=True):
    """One event for each of many users, all alike, lying in the topic at once. Durations are seconds.

    Attributes:
        latency: of every answer of both APIs.
        concurrency: users that the service may sync at a time.
        partitions: of the topic; the users are spread evenly.
        seconds: how long the load keeps the ideal line busy.
        kind: what every user has bought, a name of `consumer.sandbox.subscriptions.KINDS`.
        contact: what Mailmojo knew of every address before, a name of `consumer.sandbox.population.CONTACTS`.
        calls: requests that one such sync makes; a run fails if the sandbox logged another number.
        round_trips: how many of them follow one another (contracts and entitlements come side by side); checked too.
    """

    latency: float
    concurrency: int = 64
    partitions: int = 8
    seconds: float = 10.0
    kind: str = "recurring"
    contact: str = "tagged"
    calls: int = 6
    round_trips: int = 5

    def ideal_rate(self, width: int) -> float | None:
        """Return the events a second with so many users in flight and no other cost; None without latency."""
        return width / (self.round_trips * self.latency) if self.latency else None

    def users_for(self, width: int) -> int:
        """Return how many users keep that many flights busy for `seconds`: whole waves, so that the last is full."""
        rate = self.ideal_rate(width)
        wanted = self.seconds * (_CPU_BOUND_RATE if rate is None else min(rate, 4 * _CPU_BOUND_RATE))
        return width * max(2, round(wanted / width))

    def population(self, warm_up: int, measured: int) -> tuple[Sequence[Seed], Sequence[Seed]]:
        """Return the users of the warm-up and those that count."""
        seeds = [Seed(1, number, self.kind, self.contact) for number in range(warm_up + measured)]
        return seeds[:warm_up], seeds[warm_up:]
