"""One time-out for all requests of an HTTP client, with one timer in all (5 % of their CPU, `docs/performance.md`)."""

import asyncio
from types import TracebackType


class Deadlines:
    """Gives everything the same number of seconds. So what began first ends first, and one timer waits for that."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._open: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "Deadline":
        """Return a context for this task that raises `TimeoutError` when it is not left in time.

        As `asyncio.timeout` it cancels what is awaited inside, and a cancellation that came from elsewhere stays one.
        """
        loop = asyncio.get_running_loop()
        deadline = Deadline(self._open, loop.time() + self.seconds)
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._look, loop)
        return deadline

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expire what is over; look again when the next one is, if it is still open then."""
        self._timer = None
        now = loop.time()
        for deadline in list(self._open):
            if deadline.at > now:
                self._timer = loop.call_at(deadline.at, self._look, loop)
                return
            deadline.expire()


class Deadline:
    """The end of one request's time."""

    __slots__ = ("_cancellations", "_expired", "_open", "_task", "at")

    def __init__(self, open_: "dict[Deadline, None]", at: float) -> None:
        self.at = at
        self._open = open_
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task to cancel")
        self._task = task
        self._cancellations = task.cancelling()
        self._open[self] = None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not self._expired:
            del self._open[self]
        elif self._task.uncancel() <= self._cancellations and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task."""
        self._expired = True
        del self._open[self]
        self._task.cancel()
