"""Fetches, and how a node holds one until there are records.

A broker answers an empty fetch after `fetch.max.wait.ms`, here 100 ms, and the consumer sends the same one again: ten
a second that change nothing. So an empty fetch that has nothing to tell, not even where the log ends, is held some
seconds here. What cannot wait ends it when a broker would have answered: a request behind it on its connection, or a
consumer that wants something else. `SimulatedConnection` does not show it as a request that waits.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.kafka.network import Wire
from tests.simulation.kafka.topics import UNKNOWN_TOPIC_OR_PARTITION, Partition
from tests.simulation.timeline import Handle, Timeline

if TYPE_CHECKING:
    from tests.simulation.kafka.log import PartitionLog

OFFSET_OUT_OF_RANGE: Final = 1
NOT_LEADER: Final = 6

_HELD: Final = 5.0
_NOTHING: Final[tuple[Any, ...]] = (-1, -1, -1, [], -1, b"")

Find = Callable[[str, int], "Partition | None"]


class Fetch:
    """One fetch, from its arrival to its response."""

    def __init__(self, timeline: Timeline, node_id: int, wire: Wire, request: Any, find: Find) -> None:
        self._timeline = timeline
        self._node_id = node_id
        self._wire = wire
        self._request = request
        self._find = find
        self._began = timeline.now
        self._max_wait = max(0.001, request.max_wait_time / 1000)
        self._logs: list[PartitionLog] = []
        self._ends: Handle | None = None
        self._ends_told: dict[PartitionLog, int] = {}

    def begin(self) -> None:
        """Answer at once if there is something to tell, and hold it otherwise."""
        if self._try():
            return
        for topic, parts in self._request.topics:
            for part in parts:
                partition = self._find(topic, part[0])
                if partition is not None:
                    partition.log.changed[self._look] = None
                    self._logs.append(partition.log)
        self._wire.hurry = self._hurry
        is_told = all(self._wire.told.get(log) == log.end for log in self._logs)
        self._end_in(max(self._max_wait, _HELD) if is_told else self._max_wait)

    def _hurry(self) -> None:
        waited = self._timeline.now - self._began
        left = math.ceil(waited / self._max_wait or 1) * self._max_wait - waited
        if self._ends is not None and self._ends.when > self._timeline.now + left:
            self._end_in(left)

    def _end_in(self, seconds: float) -> None:
        if self._ends is not None:
            self._ends.cancel()
        self._ends = self._timeline.after(seconds, self._end)

    def _look(self) -> None:
        if not self._wire.is_open:
            self._let_go()
        elif not self._wire.path.node.frozen:
            self._try()

    def _end(self) -> None:
        if self._wire.path.node.frozen:
            self._end_in(self._max_wait)
            return
        self._reply(self._response()[0])

    def _try(self) -> bool:
        response, tells = self._response()
        if tells:
            self._reply(response)
        return tells

    def _reply(self, response: Any) -> None:
        self._let_go()
        self._wire.told.update(self._ends_told)
        self._wire.reply(response)

    def _let_go(self) -> None:
        for log in self._logs:
            log.changed.pop(self._look, None)
        self._logs.clear()
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None

    def _response(self) -> tuple[Any, bool]:
        request, tells = self._request, False
        left = request.max_bytes
        topics = []
        for topic, parts in request.topics:
            found = []
            for number, _, offset, _, max_bytes in parts:
                answer = self._part(self._find(topic, number), offset, min(max_bytes, left))
                tells |= bool(answer[0] or answer[-1])
                left = max(0, left - len(answer[-1]))
                found.append((number, *answer))
            topics.append((topic, found))
        return request.RESPONSE_TYPE(0, 0, 0, topics), tells

    def _part(self, partition: Partition | None, offset: int, max_bytes: int) -> tuple[Any, ...]:
        if partition is None:
            return (UNKNOWN_TOPIC_OR_PARTITION, *_NOTHING)
        if partition.leader != self._node_id:
            return (NOT_LEADER, *_NOTHING)
        log = partition.log
        if not log.start <= offset <= log.end:
            return (OFFSET_OUT_OF_RANGE, *_NOTHING)
        committed_only = bool(self._request.isolation_level)
        self._ends_told[log] = log.end
        got = log.fetch(offset, max_bytes, committed_only=committed_only)
        return (0, log.end, log.last_stable_offset, log.start, got.aborted, -1, got.data)
