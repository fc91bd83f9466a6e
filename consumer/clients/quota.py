"""The quota of one API: at most burst + rate times t requests in any t seconds (promise P6).

A leaky bucket holds what was sent; beside it the gate counts the permits that are held and not spent yet. Both
together never exceed the capacity. A held permit does not leak away, so however late it is spent, the bound holds.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self

from aiolimiter import AsyncLimiter
from msgspec import Struct

from consumer.clients.errors import Api
from consumer.ops.metrics import Metrics

_EPSILON: Final = 1e-9
"""Permits and seconds that are nothing: a timer may fire this early, and floats do not add up exactly."""


class _Bucket(AsyncLimiter):
    """The leaky bucket, asked and filled without waiting: whose turn it is, is the gate's business.

    The limiter's own line is no FIFO: it serves small amounts first and lets newcomers pass.
    """

    __slots__ = ()

    @property
    def level(self) -> float:
        """What was sent and has not leaked yet."""
        self._leak()
        return self._level

    def pour(self, amount: float) -> None:
        """Add to the level at once; a negative amount takes back what was poured before."""
        self._level = max(0.0, self.level + amount)

    def seconds_until(self, amount: float) -> float:
        """Return in how many seconds the amount fits; infinity if leaking alone will never make room for it."""
        excess = self.level + amount - self.max_rate
        if excess <= _EPSILON:
            return 0.0
        return excess / self._rate_per_sec if excess <= self._level + _EPSILON and self._rate_per_sec else math.inf

    def pour_into(self, room: float, amount: float) -> bool:
        """Pour the amount if there is this much room just now, and return whether there is."""
        if self.level + room - self.max_rate > _EPSILON:
            return False
        self._level += amount
        return True


class Permits:
    """The permits of one turn. Obtained from `QuotaGate.turn`, of use only inside its block."""

    def __init__(self, gate: "QuotaGate", wanted: int) -> None:
        self._gate = gate
        self.wanted = wanted
        self.held = 0
        self.waited = 0.0

    async def __aenter__(self) -> Self:
        await self._gate._enter(self)  # noqa: SLF001 - the two halves of one thing, here and below
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate._leave(self)  # noqa: SLF001

    def spend(self) -> Coroutine[Any, Any, None]:
        """Wait until one request may be sent, and count it as sent. Awaited right before each request.

        Beyond the permits of the turn one more is taken, ahead of turns that have not begun: a sync that has read
        half of its state is finished before another starts.
        """
        return self._gate._spend(self)  # noqa: SLF001

    def unspend(self) -> None:
        """Return a permit that was spent to the quota: its request was not sent."""
        self._gate._unspend()  # noqa: SLF001

    def ready(self) -> Coroutine[Any, Any, None]:
        """Wait until `spend` would not have to, and keep it so: a permit is held, and the gate is open just now.

        For a caller who looks at a clock before the request.
        """
        return self._gate._ready(self)  # noqa: SLF001


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
    """Somebody in line. `seconds` says in how many seconds it may pass, `take` lets it pass."""

    def __init__(self, seconds: Callable[[], float], take: Callable[[], None]) -> None:
        self.seconds = seconds
        self.take = take
        self.taken = False
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
        self._serve()

    def _bucket_for(self, share: float) -> _Bucket:
        if share <= 0:
            return _Bucket(0, 1)
        # A bucket of less than one permit would never let anything through. So with more instances than the account's
        # burst has permits, their bursts together may exceed it (the rates never do).
        capacity = max(1.0, self._burst * share)
        return _Bucket(capacity, capacity / (self._rate * share))

    async def _enter(self, mine: Permits) -> None:
        if self._at_once(self._held + self._size(mine), 0):
            self._hand_out(mine)
            return
        waiter = _Waiter(
            lambda: self._bucket.seconds_until(self._held + self._size(mine)), lambda: self._hand_out(mine)
        )
        try:
            await self._pass(mine, self._turns, waiter)
        except asyncio.CancelledError:
            self._give_back(mine)
            raise

    def _size(self, mine: Permits) -> int:
        return max(1, min(mine.wanted, math.floor(self._bucket.max_rate + _EPSILON)))

    def _hand_out(self, mine: Permits) -> None:
        mine.held = self._size(mine)
        self._held += mine.held

    def _leave(self, mine: Permits) -> None:
        self._waited.observe(mine.waited)
        self._give_back(mine)

    def _give_back(self, mine: Permits) -> None:
        self._held -= mine.held
        mine.held = 0
        if self._spends or self._extras or self._turns:
            self._serve()

    async def _spend(self, mine: Permits) -> None:
        held = mine.held > 0
        mine.held -= held  # so that no other call of this turn counts on it while this one waits
        # For what is held there is room, unless the share shrank meanwhile.
        if self._at_once(1 if held else self._held + 1, 1):
            self._held -= held
            return

        def take() -> None:
            self._held -= held
            self._bucket.pour(1)

        waiter = _Waiter(lambda: self._bucket.seconds_until(1 if held else self._held + 1), take)
        try:
            await self._pass(mine, self._spends if held else self._extras, waiter)
        except asyncio.CancelledError:
            if waiter.taken:
                self._unspend()
            else:
                mine.held += held
            raise
        if self.closed_for() > _EPSILON:  # since the permit was taken, a loop turn ago
            self._unspend()
            await self._spend(mine)

    def _unspend(self) -> None:
        """Not back to the turn: another call of it may already wait for one more than it holds."""
        self._bucket.pour(-1)
        self._serve()

    async def _ready(self, mine: Permits) -> None:
        missing = mine.held == 0

        def take() -> None:
            self._held += missing
            mine.held += missing

        if self._at_once(self._held + 1 if missing else 1, 0):
            take()
            return
        waiter = _Waiter(lambda: self._bucket.seconds_until(self._held + 1 if missing else 1), take)
        await self._pass(mine, self._extras if missing else self._spends, waiter)

    def _at_once(self, room: float, amount: float) -> bool:
        """Pour the amount if nobody is in line, the gate is open and there is room: no quota costs nothing, nearly."""
        if self._spends or self._extras or self._turns or self._loop.time() < self._closed_until:
            return False
        return self._bucket.pour_into(room, amount)

    async def _pass(self, mine: Permits, line: deque[_Waiter], waiter: _Waiter) -> None:
        began = self._loop.time()
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
                    seconds = max(self.closed_for(), first.seconds())
                    if seconds > _EPSILON:
                        if seconds < math.inf:
                            self._timer = self._loop.call_later(seconds, self._serve)
                        return
                    first.take()
                    first.taken = True
                    first.passed.set_result(None)
                line.popleft()
