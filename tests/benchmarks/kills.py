"""What a contestant does again after kill -9 in the middle of a load."""

import asyncio

from msgspec import Struct

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.loads import Load
from tests.benchmarks.runner import Site, running

LATENCY = 0.01
_PATIENCE = 180.0


class Kill(Struct, frozen=True, kw_only=True):
    """One kill.

    Attributes:
        contestant: its name.
        rate: events a second until then.
        in_flight: syncs that had begun and not ended right before, as the fake sees it.
        redone: syncs beyond one per event, those in flight included.
        width: syncs that it does at a time. Some of them the fake does not see: it has answered their last request,
            or not seen the first.
    """

    contestant: str
    rate: float
    in_flight: int
    redone: int
    width: int = 64

    @property
    def bound(self) -> float:
        """As many as it does at a time, and 0.2 s of work: what this service may do again."""
        return self.width + 0.2 * self.rate


async def kill(contestant: Contestant, site: Site, *, events: int = 3_000) -> Kill:
    """Kill a contestant when half of the events are done, start it again, and wait until all are committed.

    Raises:
        RuntimeError: it got stuck, or an event was not synced.
    """
    load = Load(latency=LATENCY, events=events)
    async with running(contestant, site) as runner:
        await site.fake.reset(load.latency)
        await runner.send(load.sequence())
        await runner.finished(events // 2, _PATIENCE)
        killed = await site.fake.state()
        runner.kill()
        await asyncio.sleep(10 * load.latency)  # until the last request that was sent has its response
        await site.fake.forget_syncs()
        await runner.start()
        await runner.committed(_PATIENCE)
        state = await site.fake.state()
    if state.begun < load.events:
        raise RuntimeError(f"{load.events - state.begun} of {load.events} events are committed and were not synced")
    return Kill(
        contestant=contestant.name,
        rate=killed.finished / killed.seconds,
        in_flight=killed.in_flight,
        redone=state.begun - load.events,
    )
