"""Finds out when a call that is down is back: by trying single users who wait, in turn with control users for reads."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from consumer.clients.errors import ApiError
from consumer.sync.calls import Call, CallState
from consumer.sync.controls import READS, Controls
from consumer.sync.evidence import Evidence

_TICK: Final = 0.25
_FIRST: Final = 0.5
_LONGEST: Final = 5.0
"""Seconds between trials: the end of an outage is noticed this soon, at little cost of quota."""

_OLD: Final = 900.0
_LONGEST_OF_OLD: Final = 30.0
"""Seconds between trials once a call is down for longer than `_OLD`: a few refused users may be all there is."""

_PATIENCE: Final = 30.0
"""Seconds after which another user is tried: the chosen one may be waiting for a quota, or somebody else serves it."""


class _Schedule:
    def __init__(self, now: float) -> None:
        self.pause = _FIRST
        self.due = now + _FIRST
        self.began = self.chosen_at = now
        self.control_next = True
        self.reading: asyncio.Task[None] | None = None


class Trials:
    """Tries the calls that are down."""

    def __init__(
        self, evidence: Evidence, controls: Controls, retry_now: Callable[[Iterable[str]], None], rng: random.Random
    ) -> None:
        """`retry_now` has these users synced at once."""
        self._evidence = evidence
        self._controls = controls
        self._retry_now = retry_now
        self._rng = rng
        self._schedules: dict[Call, _Schedule] = {}

    async def run(self) -> None:
        """Try until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(_TICK)
                self._look(tasks)

    def _look(self, tasks: asyncio.TaskGroup) -> None:
        down = {state.call: state for state in self._evidence.down()}
        for call in [call for call in self._schedules if call not in down]:
            schedule = self._schedules.pop(call)
            if schedule.reading is not None:
                schedule.reading.cancel()
        now = self._evidence.clock()
        for call, state in down.items():
            schedule = self._schedules.setdefault(call, _Schedule(now))
            if now >= schedule.due and not self._is_under_way(state, schedule, now):
                self._try(state, schedule, now, tasks)

    @staticmethod
    def _is_under_way(state: CallState, schedule: _Schedule, now: float) -> bool:
        if schedule.reading is not None and not schedule.reading.done():
            return True
        return state.trying is not None and now < schedule.chosen_at + _PATIENCE

    def _try(self, state: CallState, schedule: _Schedule, now: float, tasks: asyncio.TaskGroup) -> None:
        longest = _LONGEST if now < schedule.began + _OLD else _LONGEST_OF_OLD
        schedule.pause, pause = min(longest, 2 * schedule.pause), schedule.pause
        schedule.due = now + pause * self._rng.uniform(0.5, 1)
        by_control = schedule.control_next and state.call in READS
        schedule.control_next = not schedule.control_next
        if by_control:
            schedule.reading = tasks.create_task(self._read(state.call))
            return
        schedule.chosen_at = now
        if (user_id := state.next_trial()) is not None:
            self._retry_now([user_id])

    async def _read(self, call: Call) -> None:
        try:
            await self._controls.try_again(call)
        except ApiError:
            return  # the evidence has heard of it
