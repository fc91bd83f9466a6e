"""Order per user, many users at once: one queue per user, at most one sync of a user at a time (promises P2, P5, P7).

A queue lingers first, so that events which arrive together are answered together; then it waits for a slot, oldest
event first, users that fail behind those that do not, requests of ours after events; then it flies. A user who lingers
or waits for a retry holds no slot, and neither does one that is given up: the dead letter is stored beside the syncs,
and what came for that user since waits.

What flies lines up for the permits of its first read, first come, first served. So a request, or a user that fails,
starts only when nobody is in that line: a full quota would else let an event wait for as many of them as there are
slots.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import chain
from typing import Final, Protocol

from consumer.clock import Clock
from consumer.stream.aside import Aside
from consumer.stream.flight import Again, Flight, GiveUp, Landed, Lease, Parked, Phase, UserQueue, Verdict, WriteWatch
from consumer.stream.line import Line
from consumer.stream.pending import Waiting
from consumer.stream.waits import Waits
from consumer.sync.flight import WriteAudit


class Admission(Protocol):
    """Says whether reading more is of use; see `consumer.sync.evidence.Evidence`."""

    @property
    def stopped(self) -> bool:
        """Whether no sync can end well now, whoever's it is."""


Work = Callable[[Flight], Awaitable[Verdict]]
DeadLettering = Callable[[Flight, GiveUp], Awaitable[Landed | Again]]

GIVING_UP_AT_ONCE: Final = 8
"""Users whose dead letters are looked up and stored at the same time, beside the slots of syncs."""


class UserQueues:
    """All users with something to do."""

    def __init__(
        self,
        lease: Lease,
        admission: Admission,
        *,
        concurrency: int,
        linger: float,
        coalesce: bool,
        clock: Clock,
        wrote: Callable[[Flight, WriteAudit], None] = lambda _flight, _audit: None,
        dropped: Callable[[], None] = lambda: None,
        watch: WriteWatch | None = None,
    ) -> None:
        """Queue for a lease and an admission.

        `wrote` gets each accepted write, `dropped` is called by `drop`, `watch` times the writes.
        """
        self.pending = 0
        self._lease = lease
        self._admission = admission
        self._concurrency = concurrency
        self._linger = linger
        self._coalesce = coalesce
        self._clock = clock
        self._wrote = wrote
        self._dropped = dropped
        self._watch = watch
        self._queues: dict[str, UserQueue] = {}
        self._flights: dict[str, Flight] = {}
        self._given_up: dict[str, Flight] = {}
        """Users whose dead letter is being stored, or waits for that in `_to_give_up`."""
        self._to_give_up: deque[tuple[Flight, GiveUp]] = deque()
        self._aside = Aside()
        self._line = Line(concurrency, clock)
        self._retries = 0
        """Flights of users that fail."""
        self._wake = asyncio.Event()
        self._accepting = False
        self._in_line = 0
        """Flights that wait for the permits of their first read."""
        self._held_back = False
        """Whether somebody could start if nobody were in that line."""

    @property
    def in_flight(self) -> int:
        """How many users are being synced at this moment."""
        return len(self._flights)

    @property
    def counted(self) -> int:
        """How many events count against `sync.max_pending`: all but those of users that fail, while others go on."""
        everything = self._aside.is_full or self._admission.stopped
        return self.pending if everything else self.pending - self._aside.events

    def oldest_arrival(self) -> float | None:
        """Return when the oldest event that is not done was read, on the clock; None without one."""
        waiting = (queue.waiting.first_arrival for queue in self._queues.values() if queue.waiting)
        flying = (flight.events.first_arrival for flight in self._open() if flight.events)
        return min(chain(waiting, flying), default=None)

    def waits(self) -> Waits:
        """Return how many users wait for what. It looks at every waiting user: not for a path that is hot."""
        delayed = self._line.delayed()
        retrying = sum(queue.retried for queue in delayed)
        phases = Counter(flight.phase for flight in self._flights.values())
        return Waits(
            lingering=len(delayed) - retrying,
            retrying=retrying,
            ready=self._line.ready(),
            starting=phases[Phase.WAITING],
            reading=phases[Phase.READING],
            writing=phases[Phase.WRITING],
            giving_up=len(self._given_up),
            parked=sum(queue.parked for queue in self._queues.values()),
        )

    def open(self) -> None:
        """Let flights start; a generation begins."""
        self._accepting = True
        self.wake()

    def wake(self) -> None:
        """Look again for what may start."""
        self._wake.set()

    def put(self, user_id: str, event: Waiting) -> None:
        """Line the event up behind those of its user."""
        queue = self._queues.get(user_id)
        if queue is None:
            queue = self._queues[user_id] = UserQueue(user_id)
        joins_requests = queue.waiting.only_requests and not event.is_request
        queue.waiting.append(event)
        self._resize(queue, 1, failing=queue.failing)
        if len(queue.waiting) == 1:
            if not self._is_open(user_id):
                self._delay(queue, event.arrived_at + self._linger)
        elif queue.claim and joins_requests:
            # An event joined a queue of requests: from now on it is served among the events.
            self._delay(queue, queue.due)

    def retry_now(self, user_ids: Iterable[str]) -> None:
        """Let users start that are parked or wait for their next attempt: what they failed of is over.

        One that flies is not parked when it lands.
        """
        for user_id in user_ids:
            queue = self._queues.get(user_id)
            if user_id in self._flights:
                self._flights[user_id].retry_at_once = True
            elif queue is not None and queue.failing and (queue.parked or queue.due > self._clock()):
                self._delay(queue, self._clock())

    async def run(self, work: Work, give_up: DeadLettering) -> None:
        """Start syncs as slots and time allow, and give up whom they cannot help, until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                self._give_some_up(give_up, tasks)
                next_look = self._start_flights(work, tasks)
                timer = None if next_look is None else loop.call_later(next_look, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    if timer is not None:
                        timer.cancel()

    async def settle(self, budget: float, *, patience: float = 0.0) -> bool:
        """Start nothing more and end what flies: reads are cancelled, writes are awaited.

        Args:
            budget: seconds for the writes to end, once reads are cancelled.
            patience: seconds that reads may go on before they are cancelled; what only waits is cancelled at once.

        Returns:
            Whether everything ended. What did not counts for nothing once `drop` was called.
        """
        self._accepting = False
        await self._recall({Phase.WAITING}, patience)
        await self._recall({Phase.WAITING, Phase.READING}, budget)
        return not any(flight.task is not None for flight in self._open())

    def drop(self) -> None:
        """Forget everything that waits: its partitions were revoked, and the next owner reads it again."""
        self._accepting = False
        self._queues.clear()
        self._line.clear()
        self._aside.clear()
        for flight, _ in self._to_give_up:
            del self._given_up[flight.user_id]
        self._to_give_up.clear()
        self.pending = 0
        self._dropped()

    async def _recall(self, cancelled: set[Phase], seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            for flight in self._open():
                if flight.phase in cancelled and flight.task is not None and not flight.recalled:
                    flight.recalled = flight.task.cancel()
            await asyncio.sleep(0)
            tasks = [flight.task for flight in self._open() if flight.task is not None]
            left = deadline - asyncio.get_running_loop().time()
            if not tasks or left <= 0:
                return
            await asyncio.wait(tasks, timeout=min(left, 0.05))

    def _delay(self, queue: UserQueue, due: float) -> None:
        queue.parked = False
        self._line.add(queue, due)
        if self._accepting:
            self.wake()

    def _resize(self, queue: UserQueue, events: int, *, failing: bool) -> None:
        if queue.failing:
            self._aside.remove(queue)
        queue.size += events
        queue.failing = failing
        self.pending += events
        if failing:
            self._aside.add(queue)

    def _start_flights(self, work: Work, tasks: asyncio.TaskGroup) -> float | None:
        """Start what may start, and return after how many seconds to look again (None: only when woken)."""
        next_look = self._line.ripen()
        if not self._accepting:
            return None
        self._held_back = False
        while len(self._flights) < self._concurrency:
            queue = self._line.first(self._retries)
            if queue is None:
                break
            if self._is_open(queue.user_id):
                # Still flying, or given up, for an older generation; its landing wakes the queue.
                self._line.withdraw(queue)
                continue
            if self._in_line and self._line.yields(queue):
                self._held_back = True
                break
            self._line.take(queue)
            flight = Flight(
                queue,
                self._lease,
                coalesce=self._coalesce,
                wrote=self._wrote,
                began=self._leave_the_line,
                watch=self._watch,
            )
            self._flights[queue.user_id] = flight
            self._in_line += 1
            self._retries += flight.retries
            flight.task = tasks.create_task(self._fly(flight, work))
            # Not in the task: one that is cancelled before its first step runs nothing of its own.
            flight.task.add_done_callback(partial(self._land, flight))
        return next_look

    async def _fly(self, flight: Flight, work: Work) -> None:
        flight.verdict = await work(flight)

    def _open(self) -> Iterable[Flight]:
        return chain(self._flights.values(), self._given_up.values())

    def _is_open(self, user_id: str) -> bool:
        return user_id in self._flights or user_id in self._given_up

    def _give_some_up(self, give_up: DeadLettering, tasks: asyncio.TaskGroup) -> None:
        storing = len(self._given_up) - len(self._to_give_up)
        while self._accepting and self._to_give_up and storing < GIVING_UP_AT_ONCE:
            flight, end = self._to_give_up.popleft()
            storing += 1
            flight.task = tasks.create_task(self._store(flight, end, give_up))
            flight.task.add_done_callback(partial(self._landed, flight, self._given_up))

    async def _store(self, flight: Flight, end: GiveUp, give_up: DeadLettering) -> None:
        flight.verdict = await give_up(flight, end)

    def _leave_the_line(self) -> None:
        self._in_line -= 1
        if self._held_back and not self._in_line:
            self.wake()

    def _land(self, flight: Flight, task: asyncio.Task[None]) -> None:
        if flight.phase is Phase.WAITING:
            self._leave_the_line()
        self._retries -= flight.retries
        user_id, end = flight.user_id, flight.verdict
        if isinstance(end, GiveUp) and self._queues.get(user_id) is flight.queue:
            del self._flights[user_id]
            flight.task, flight.verdict = None, Again(0)
            self._given_up[user_id] = flight
            self._to_give_up.append((flight, end))
            self._resize(flight.queue, 0, failing=True)
            self.wake()
        else:
            self._landed(flight, self._flights, task)

    def _landed(self, flight: Flight, where: dict[str, Flight], _task: asyncio.Task[None]) -> None:
        queue, user_id, verdict = flight.queue, flight.user_id, flight.verdict
        del where[user_id]
        self.wake()
        if self._queues.get(user_id) is not queue:
            # Dropped meanwhile; a queue of the next generation may have waited for this landing.
            blocked = self._queues.get(user_id)
            if blocked is not None and not blocked.claim:
                self._delay(blocked, blocked.waiting.first_arrival + self._linger)
            return
        if isinstance(verdict, Again | Parked):
            self._resize(queue, 0, failing=True)
            flight.events.extend(queue.waiting)
            queue.waiting = flight.events
            queue.parked = isinstance(verdict, Parked) and not flight.retry_at_once
            if not queue.parked:
                self._delay(queue, self._clock() + (verdict.delay if isinstance(verdict, Again) else 0))
            return
        # After a dead letter the user still counts as one that fails: its next event may end the same way.
        self._resize(queue, -len(flight.events), failing=bool(queue.waiting) and where is self._given_up)
        queue.attempts = queue.refusals = 0
        if queue.waiting:
            self._delay(queue, queue.waiting.first_arrival + self._linger)
        else:
            del self._queues[user_id]
