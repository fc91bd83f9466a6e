"""An asyncio event loop that somebody else steps: no sockets, no threads, and the time that it is told."""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable
from contextvars import Context
from itertools import count
from typing import Any, NoReturn


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is the same in each run: asyncio and aiokafka iterate over sets of tasks."""

    def __init__(self, number: int, *arguments: Any, **options: Any) -> None:
        self._number = number
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    """A future whose place in a set is the same in each run."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SteppedLoop(asyncio.BaseEventLoop):
    """Runs one turn whenever `turn` is called, and says with `on_ready` that it has something to run.

    It keeps what BaseEventLoop has for tasks, futures, timers and exception handlers. Calls for a thread run at once.
    """

    _ready: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _closed: bool

    def __init__(self, name: str, clock: Callable[[], float], on_ready: Callable[[], object]) -> None:
        self.name = name
        self._clock = clock
        self._on_ready = on_ready
        self._is_in_turn = False
        self._numbers = count()
        super().__init__()

    def time(self) -> float:
        """Return the host's seconds."""
        return self._clock()

    def next_time(self) -> float | None:
        """Return when the next turn has something to do, on the loop's clock; None if never."""
        if self._ready:
            return self._clock()
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        return scheduled[0]._when if scheduled else None

    def turn(self) -> None:
        """Run every callback that is ready now, but none that these add: as one iteration of asyncio's own loop.

        It may be called inside a turn of another loop, which then goes on where it was.
        """
        outer, self._is_in_turn = events._get_running_loop(), True
        events._set_running_loop(self)
        try:
            ready, scheduled, end = self._ready, self._scheduled, self._clock() + 1e-9
            while scheduled and scheduled[0]._when < end:
                handle = heapq.heappop(scheduled)
                handle._scheduled = False
                ready.append(handle)
            for _ in range(len(ready)):
                if not ready:  # one of them killed this process
                    break
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            self._is_in_turn = False
            events._set_running_loop(outer)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task."""
        return _Task(next(self._numbers), coro, loop=self, **options)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return _Future(next(self._numbers), self)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Run the callback in the next turn."""
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._is_in_turn:
            self._on_ready()
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """Run the callback at this time of the loop's clock."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        if not self._is_in_turn:
            self._on_ready()
        return timer

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Run the callback in the next turn: there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """Make the call at once; its result is there in the next turn."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - the caller gets it from the future
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def discard(self) -> "list[asyncio.Task[Any]]":
        """Forget all callbacks, as a process that is killed, and return the tasks, which must be kept for now.

        A coroutine that is deallocated runs its `finally` blocks, which a killed process does not.
        """
        left = list(asyncio.all_tasks(self))
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._ready.clear()
        self._scheduled.clear()
        self._closed = True
        return left

    def is_running(self) -> bool:
        """Return whether a turn is going on."""
        return self._is_in_turn

    def run_forever(self) -> NoReturn:
        """Refuse: the world's timeline steps this loop."""
        raise RuntimeError("this loop is stepped by a Timeline")
