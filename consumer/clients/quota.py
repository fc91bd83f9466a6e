"""The quota of one API: at most burst + rate times t requests in any t seconds (promise P6).

A leaky bucket holds what was sent; beside it the gate counts the permits that are held and not spent yet. Both
together never exceed the capacity. A held permit does not leak away, so however late it is spent, the bound holds.

aiolimiter is not used through its public interface alone: `acquire` cannot take back a permit whose request was not
sent, nothing tells how long an amount will have to wait, and its waiters are served by size instead of in order. So
the gate has the lines, and `_Bucket` reads and sets the level of aiolimiter's bucket; all else that it uses is public.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from aiolimiter import AsyncLimiter
from msgspec import Struct

from consumer.clients.errors import Api
from consumer.ops.metrics import Metrics

_EPSILON: Final = 1e-9
"""Permits and seconds that are nothing: a timer may fire this early, and floats do not add up exactly."""


class _Bucket(AsyncLimiter):
    """The leaky bucket. `_level` is the one part of aiolimiter used here that is not public (see above)."""

    __slots__ = ()

    @property
    def level(self) -> float:
        """What was sent and has not leaked yet."""
        self.has_capacity()  # has it leak until now
        return self._level

    def pour(self, amount: float) -> None:
        """Add to the level at once; a negative amount takes back what was poured before."""
        self._level = max(0.0, self.level + amount)

    def seconds_until(self, amount: float) -> float:
        """Return in how many seconds the amount fits; infinity if leaking alone will never make room for it."""
        level = self.level
        excess = level + amount - self.max_rate
        if excess <= _EPSILON:
            return 0.0
        return excess * self.time_period / self.max_rate if excess <= level + _EPSILON and self.max_rate else math.inf


class Permits:
    """The permits of one turn. Obtained from `QuotaGate.turn`, of use only inside its block."""

    def __init__(self, gate: "QuotaGate", wanted: int) -> None:
        self._gate = gate
        self.wanted = wanted
        self.held = 0
        self.waited = 0.0

    async def __aenter__(self) -> Self:
        await self._gate.enter(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave(self)

    async def spend(self) -> None:
        """Wait until one request may be sent, and count it as sent. Awaited right before each request.

        Beyond the permits of the turn one more is taken, ahead of turns that have not begun: a sync that has read
        half of its state is finished before another starts.
        """
        await self._gate.spend(self)

    def unspend(self) -> None:
        """Return a permit that was spent to the quota: its request was not sent."""
        self._gate.unspend()

    async def ready(self) -> None:
        """Wait until `spend` would not have to, and keep it so: a permit is held, and the gate is open just now.

        For a caller who looks at a clock before the request.
        """
        await self._gate.ready(self)


class GateState(Struct, frozen=True):
    """How a gate stands at one moment, for the status page."""

    share: float
    """The part of the account's quota that is this instance's, 0 to 1."""
    per_second: float
    """Requests a second that the share allows."""
    in_line: int
    """Callers that wait for a permit."""
    closed_for: float
    """Seconds that the API asked to be left alone, from now."""


class _Waiter:
    """A caller in line: `room` is the part of the capacity that must be free, `take` is called once it is."""

    def __init__(self, room: Callable[[], int], take: Callable[[], None]) -> None:
        self.room = room
        self.take = take
        self.passed = asyncio.get_running_loop().create_future()


class QuotaGate:
    """One API's gate: requests pass in the order of their turns. Made inside a running event loop."""

    def __init__(
        self,
        api: Api,
        rate: float,
        burst: float,
        *,
        metrics: Metrics,
        share: float = 1.0,
        stored_burst: bool = False,
    ) -> None:
        """Open the gate for a share of the account's `rate` (permits per second) and `burst`.

        Without `stored_burst` the bucket begins empty: what was sent before a restart is not known any more.
        """
        self._rate = rate
        self._burst = burst
        self._loop = asyncio.get_running_loop()
        self._closed_until = -math.inf
        self._held = 0
        self._turns: deque[_Waiter] = deque()
        self._extras: deque[_Waiter] = deque()
        self._spends: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waited = metrics.rate_limit_wait.labels(api)
        self._share_gauge = metrics.quota_share.labels(api)
        self._share = 0.0
        self._bucket = self._bucket_for(0.0)
        self._covered = True
        """Whether there is room in the bucket for every permit that is held; a share that shrinks may take it away."""
        self.set_share(share)
        if stored_burst:
            self._bucket = self._bucket_for(share)

    def turn(self, permits: int) -> Permits:
        """Take permits all at once, first come, first served; on leaving, what was not spent goes back.

        More than the capacity can hold are taken one by one as they are spent.
        """
        return Permits(self, permits)

    def close(self, seconds: float) -> None:
        """Let nothing through for so long, counted from now; a longer closure that is under way stays."""
        self._closed_until = max(self._closed_until, self._loop.time() + seconds)
        self._serve()

    def closed_for(self) -> float:
        """Return for how many more seconds the gate is closed; 0 when it is open."""
        return max(0.0, self._closed_until - self._loop.time())

    def state(self) -> GateState:
        """Return how the gate stands now."""
        in_line = sum(not it.passed.done() for line in (self._turns, self._extras, self._spends) for it in line)
        return GateState(self._share, self._rate * self._share, in_line, self.closed_for())

    def set_share(self, fraction: float) -> None:
        """Take this part (0 to 1) of the account's quota from now on, beginning without a burst.

        What another instance sent on this part just before is not known, so no burst is handed over: the sum over
        all instances stays within the account's quota while shares move. What this one sent on its old part was
        within that, and is over with it: a part that shrinks goes on at its new rate. Share 0 lets nothing through.
        """
        self._share = fraction
        self._share_gauge.set(fraction)
        bucket = self._bucket_for(fraction)
        bucket.pour(bucket.max_rate - self._held)
        self._bucket = bucket
        self._covered = self._held <= bucket.max_rate
        self._serve()

    def _bucket_for(self, share: float) -> _Bucket:
        if share <= 0:
            return _Bucket(0, 1)
        # A bucket of less than one permit would never let anything through. So with more instances than the account's
        # burst has permits, their bursts together may exceed it (the rates never do).
        capacity = max(1.0, self._burst * share)
        return _Bucket(capacity, capacity / (self._rate * share))

    async def enter(self, mine: Permits) -> None:
        """Wait for the turn's permits. Called by `Permits`, as the other methods here that take one."""

        def take() -> None:
            mine.held = self._size(mine)
            self._held += mine.held

        try:
            await self._pass(mine, self._turns, lambda: self._held + self._size(mine), take)
        except asyncio.CancelledError:
            self._give_back(mine)
            raise

    def leave(self, mine: Permits) -> None:
        """Take back what was not spent."""
        self._waited.observe(mine.waited)
        self._give_back(mine)

    async def ready(self, mine: Permits) -> None:
        """Wait until a permit is held and the gate lets it through."""

        def take() -> None:
            self._held += 1
            mine.held += 1

        while not self._is_ready(mine):
            if mine.held:  # there is room for it, unless the share shrank meanwhile
                await self._pass(mine, self._spends, lambda: 1, lambda: None)
            else:
                await self._pass(mine, self._extras, lambda: self._held + 1, take)

    async def spend(self, mine: Permits) -> None:
        """Wait as `ready`, and count one request as sent in the same step."""
        await self.ready(mine)
        mine.held -= 1
        self._held -= 1
        self._bucket.pour(1)
        self._serve()  # what is no longer held leaks away: who waits can tell now for how long

    def unspend(self) -> None:
        """Take a spent permit back; not for its turn, another call of which may already wait for one more."""
        self._bucket.pour(-1)
        self._serve()

    def _is_ready(self, mine: Permits) -> bool:
        if not mine.held:
            return False
        if not self._covered:
            self._covered = self._bucket.seconds_until(self._held) <= _EPSILON
            return self._seconds_until(1) <= _EPSILON
        return self.closed_for() <= _EPSILON

    def _seconds_until(self, room: int) -> float:
        return max(self.closed_for(), self._bucket.seconds_until(room))

    def _size(self, mine: Permits) -> int:
        return max(1, min(mine.wanted, math.floor(self._bucket.max_rate + _EPSILON)))

    def _give_back(self, mine: Permits) -> None:
        self._held -= mine.held
        mine.held = 0
        self._serve()

    async def _pass(
        self, mine: Permits, line: deque[_Waiter], room: Callable[[], int], take: Callable[[], None]
    ) -> None:
        if not (self._spends or self._extras or self._turns) and self._seconds_until(room()) <= _EPSILON:
            take()
            return
        began = self._loop.time()
        waiter = _Waiter(room, take)
        line.append(waiter)
        self._serve()
        try:
            await waiter.passed
        except asyncio.CancelledError:
            if waiter in line:
                line.remove(waiter)
            self._serve()
            raise
        finally:
            mine.waited += self._loop.time() - began

    def _serve(self) -> None:
        """Let through everybody whose time has come, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for line in (self._spends, self._extras, self._turns):
            while line:
                first = line[0]
                if not first.passed.done():
                    seconds = self._seconds_until(first.room())
                    if seconds > _EPSILON:
                        if seconds < math.inf:
                            self._timer = self._loop.call_later(seconds, self._serve)
                        return
                    first.take()
                    first.passed.set_result(None)
                line.popleft()
