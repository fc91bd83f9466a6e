"""The replay itself: from a source, through what is to be changed, at a pace, to a destination."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec import Struct

from consumer.replay.pace import Pacer
from consumer.replay.record import NO_TIME, Record
from consumer.replay.rewriting import Rewrite


class Source(Protocol):
    """Where records come from."""

    @property
    def progress(self) -> float:
        """How much of it was given out, from 0 to 1."""

    def batches(self) -> AsyncIterator[list[Record]]:
        """Yield all records, in order per partition. Raises `Failure`."""


class Sink(Protocol):
    """Where records go. Tells the pacer of each one that is stored."""

    async def put(self, record: Record, due: float | None = None) -> None:
        """Take a record. Raises `Failure`."""

    async def flush(self) -> None:
        """Return when all is stored. Raises `Failure`."""


class Summary(Struct, frozen=True):
    """What a replay did. Times are seconds."""

    read: int
    stored: int
    seconds: float
    per_second: float
    complete: bool
    last_timestamp: int | None
    """Of the last record that was read, in milliseconds."""
    lateness_most: float | None = None
    """How much later than intended the latest record was stored; None flat out."""
    left_out: int = 0
    """Dead letters among those read that lack a part of their record; they are not replayed."""


class Replay:
    """One replay. `read` and `progress` may be looked at while it runs."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        pacer: Pacer,
        rewrites: Sequence[Rewrite] = (),
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> None:
        """Replay at most `limit` records of the source after the first `skip`, rewritten by each of these in turn."""
        self.read = 0
        self.pacer = pacer
        self._source = source
        self._sink = sink
        self._rewrites = rewrites
        self._to_skip = skip
        self._limit = limit
        self._left_out = 0
        self._last: int | None = None
        self._complete = False
        self._batch = (0.0, 0.0, 0, 1)
        """Progress before and with the batch in hand, what was read before it, and its length."""

    @property
    def progress(self) -> float:
        """How much is done, from 0 to 1, as far as can be told."""
        before, after, read, length = self._batch
        return max(
            before + (after - before) * (self.read - read) / length, self.read / self._limit if self._limit else 0.0
        )

    async def run(self, interruptible: Callable[[Coroutine[Any, Any, None]], Awaitable[bool]]) -> Summary:
        """Replay, and flush however it ends; `interruptible` returns whether its argument came to its own end."""
        try:
            self._complete = await interruptible(self._pump())
        finally:
            await self._sink.flush()
        return self.summary()

    def summary(self) -> Summary:
        """Return what was done so far."""
        seconds = self.pacer.elapsed
        return Summary(
            read=self.read,
            stored=self.pacer.stored,
            seconds=round(seconds, 3),
            per_second=round(self.pacer.stored / seconds, 1) if seconds else 0.0,
            complete=self._complete,
            last_timestamp=self._last,
            lateness_most=round(self.pacer.most, 3) if self.pacer.paced else None,
            left_out=self._left_out,
        )

    async def _pump(self) -> None:
        put, wait, paced = self._sink.put, self.pacer.wait, self.pacer.paced
        async for batch in self._source.batches():
            self._batch = (self._batch[1], self._source.progress, self.read, len(batch) or 1)
            for record in batch:
                if self.read == self._limit:
                    return
                if self._to_skip:
                    self._to_skip -= 1
                    continue
                self._left_out += record.is_truncated
                records: Sequence[Record] = () if record.is_truncated else (record,)
                for rewrite in self._rewrites:
                    records = [new for old in records for new in rewrite(old)]
                for one in records:
                    await put(one, await wait(one) if paced else None)
                self.read += 1
                if record.timestamp != NO_TIME:
                    self._last = record.timestamp
            if self.read == self._limit:
                return
