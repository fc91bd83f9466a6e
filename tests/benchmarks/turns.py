"""A turn: one contestant works off one load. The contestants of a stage are all there and take turns."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from msgspec import Struct

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.fake_process import FakeProcess
from tests.benchmarks.loads import Load
from tests.benchmarks.runner import Runner, Site, running
from tests.benchmarks.usage import TICK, usage_of

CORES = os.cpu_count() or 1
_SETTLE = 0.3
_PATIENCE = 60.0


class Turn(Struct, frozen=True, kw_only=True):
    """What a turn showed.

    Attributes:
        load: which.
        contestant: its name.
        events: how many there were.
        requests: about users.
        seconds: from the first request to the last response, by the fake's clock.
        cpu: user and system seconds of the contestant's processes, from the load's arrival until it was done.
        fake_cpu: the same of the fake.
        peak_rss: the most MiB that the processes ever held, together.
        violations: what the fake counted (`fake_users.Counts`).
        examples: the first of them.
    """

    load: Load
    contestant: str
    events: int
    requests: int
    seconds: float
    cpu: float
    fake_cpu: float
    peak_rss: float
    violations: int = 0
    examples: Sequence[str] = ()

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_per_event(self) -> float:
        """CPU seconds of an event."""
        return self.cpu / self.events

    @property
    def cores(self) -> float:
        """How many cores the contestant used."""
        return self.cpu / self.seconds

    @property
    def fake_cores(self) -> float:
        """How many cores the fake used: at 1 it would be the one that is measured."""
        return self.fake_cpu / self.seconds

    @property
    def problem(self) -> str | None:
        """Why the turn does not count: an event made another number of requests than six, or broke an order."""
        if self.violations:
            return f"{self.violations} violations, such as: {'; '.join(self.examples)}"
        if not self.load.hot and self.requests != 6 * self.events:
            return f"{self.requests / self.events:.2f} requests an event instead of 6"
        return None


class Results(Struct, kw_only=True):
    """All turns, and who dropped out, why."""

    turns: list[Turn] = []
    dropped: list[tuple[str, str]] = []

    def of(self, load: Load, contestant: str) -> list[Turn]:
        """Return a contestant's turns under a load, by round."""
        return [turn for turn in self.turns if turn.load == load and turn.contestant == contestant]


async def take_turn(runner: Runner, load: Load, fake: FakeProcess) -> Turn:
    """Have a contestant work off a load.

    Raises:
        RuntimeError: it ended or got stuck.
    """
    await fake.reset(load.latency)
    before, fake_before = runner.usage(), usage_of(fake.pid)
    await runner.send(load.sequence())
    await runner.done(load.events, _PATIENCE + load.events / 20)
    # What follows the last response is the event's, too: log lines, offsets.
    await asyncio.sleep(_SETTLE)
    after, fake_after, state = runner.usage(), usage_of(fake.pid), await fake.state()
    return Turn(
        load=load,
        contestant=runner.contestant.name,
        events=load.events,
        requests=state.requests,
        seconds=state.seconds,
        cpu=max(after.cpu - before.cpu, TICK),
        fake_cpu=fake_after.cpu - fake_before.cpu,
        peak_rss=after.peak_rss,
        violations=state.violations,
        examples=state.examples,
    )


def stages(loads: Sequence[Load]) -> Mapping[tuple[int, int | None], Sequence[Load]]:
    """Return the loads by the width and the number of instances that they need."""
    found: dict[tuple[int, int | None], list[Load]] = {}
    for load in loads:
        found.setdefault((load.width, load.instances), []).append(load)
    return found


def kind(load: Load) -> str:
    """Return the kind of a load, one of `Contestant.kinds`."""
    if load.instances != 1:
        return "fleet"
    return "hot" if load.hot else "even"


async def race(
    loads: Sequence[Load], contestants: Sequence[Contestant], rounds: int, site: Site, results: Results
) -> None:
    """Have all contestants work off all loads, `rounds` times, and add the turns to `results`.

    In a round the contestants follow one another, so that a noisy minute meets all of them; every other round goes
    the other way. A contestant that breaks a rule, ends or gets stuck drops out
    until the next loads start other processes.
    """
    for (width, count), here in stages(loads).items():
        kinds = {kind(load) for load in here}
        async with AsyncExitStack() as stack:
            runners: list[Runner] = []
            for contestant in contestants:
                if not kinds & contestant.kinds:
                    continue
                start = running(contestant, site, width=width, instances=count or CORES)
                try:
                    runners.append(await stack.enter_async_context(start))
                except RuntimeError as error:
                    drop(results, contestant.name, f"{here[0].name}: {error}")
            for load in here:
                for number in range(rounds):
                    for runner in runners[:] if number % 2 == 0 else runners[::-1]:
                        if kind(load) in runner.contestant.kinds and not await _add_turn(
                            runner, load, number, site.fake, results
                        ):
                            runners.remove(runner)


async def _add_turn(runner: Runner, load: Load, number: int, fake: FakeProcess, results: Results) -> bool:
    """Return whether the contestant may go on."""
    name = runner.contestant.name
    try:
        turn = await take_turn(runner, load, fake)
    except RuntimeError as error:
        drop(results, name, f"{load.name}: {error}")
        return False
    if turn.problem:
        drop(results, name, f"{load.name}: {turn.problem}")
        return False
    results.turns.append(turn)
    say(
        f"{load.name}, round {number + 1}: {name}: {turn.rate:.0f} events/s, {1e6 * turn.cpu_per_event:.0f} µs/event, "
        f"{turn.cores:.2f} cores; the fake {turn.fake_cores:.2f}"
    )
    return True


def drop(results: Results, name: str, reason: str) -> None:
    """Say that a contestant does not go on."""
    results.dropped.append((name, reason))
    say(f"*** {name} drops out: {reason} ***")


def say(text: str) -> None:
    """Tell how it goes, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
