"""Work that many ask for and one does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from consumer.clients.errors import ApiError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs a call once for all who ask while it runs: they share its result, and its error too.

    Without the error, sixty waiting syncs would ask a dead server one after the other, a time-out each. The call runs
    in the task of whoever asked first; when that is cancelled, the next one begins anew.
    """

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._lock = asyncio.Lock()
        self._ended = 0
        self._error: ApiError | None = None
        self._result: T

    async def __call__(self) -> T:
        """Return the result of the call that is under way, or of a new one. Raises what it raises."""
        seen = self._ended
        async with self._lock:
            if self._ended == seen:
                try:
                    self._result, self._error = await self._call(), None
                except ApiError as error:
                    self._error = error
                self._ended += 1
            if self._error is not None:
                raise type(self._error)(*self._error.args)  # one error of its own for each, with its own traceback
            return self._result
