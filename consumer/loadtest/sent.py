"""What was sent: of each user's events when each was to be sent and was, and which state of the user it speaks of."""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from msgspec import Struct, field, structs

from consumer.loadtest.events import Expectation
from consumer.replay.pace import Pacer
from consumer.replay.record import Record
from consumer.sandbox.contacts import fold
from consumer.sandbox.population import Seed

NUMBER: Final = "load-test-number"
"""The header that tells a user's events apart; a dead letter keeps it."""

_LANES: Final = 16
"""So many users change at once; one after the other, a few hundred a second would be the most."""

_QUEUED: Final = 100
"""Records in a lane, until the replay waits."""

_SKIPPED: Final = {"guest_marked": "skipped_guest", "no_email": "skipped_no_email"}
"""Kinds of users that cost one read and no write."""


class UserEvents(Struct):
    """One user's events, oldest first; three arrays of one length. Times are monotonic seconds."""

    address: str = ""
    """The contact's, in lower case; empty for somebody whom a sync skips."""
    skipped: str = ""
    """The outcome of a sync that skips the user; empty for one that is synced."""
    version: int = 1
    """The user's newest."""
    meant_at: "array[float]" = field(default_factory=lambda: array("d"))
    """When the event was to be sent: its due time; flat out, when it was its turn."""
    sent_at: "array[float]" = field(default_factory=lambda: array("d"))
    """Before it was handed to the producer: no sync that answers it can have begun earlier."""
    versions: "array[int]" = field(default_factory=lambda: array("q"))
    """The user's version when it was sent: what the contact must show, or a newer one."""


class Sent(Struct):
    """Everything sent."""

    users: dict[str, UserEvents] = {}
    others: Counter[str] = field(default_factory=Counter)
    """Records that ask for no sync, by the outcome that they must have."""
    began: float = 0.0
    """Monotonic seconds at which the first event was due."""

    @property
    def count(self) -> int:
        """How many records were handed over."""
        return self.others.total() + sum(len(user.sent_at) for user in self.users.values())


class _Topic(Protocol):
    async def put(self, record: Record, due: float | None = None) -> None: ...
    async def flush(self) -> None: ...


class _Waiting(NamedTuple):
    record: Record
    due: float | None
    meant_at: float
    user_id: str | None
    outcome: str


class NotingSink:
    """In front of a topic: changes the user at Sesamy, takes note of the event, and passes it on.

    Events of a user that wait behind one another here share a change, as those of a purchase do.
    """

    def __init__(
        self,
        topic: _Topic,
        pacer: Pacer,
        expectation: Expectation,
        people: Mapping[str, Seed],
        *,
        change: Callable[[str], Awaitable[int]],
        share: float,
        seed: int,
    ) -> None:
        """Pass on to `topic`; before a `share` of the events `change` makes, and returns, a user's new version."""
        self.sent = Sent()
        self._topic, self._pacer, self._expectation, self._people = topic, pacer, expectation, people
        self._change, self._share = change, share
        self._lanes = [asyncio.Queue[_Waiting](_QUEUED) for _ in range(_LANES)]
        self._dice = random.Random(seed)  # noqa: S311 - a load, no secrets

    async def put(self, record: Record, due: float | None = None) -> None:
        """Take a record. Waits only while too many wait for what happens before them."""
        now = time.monotonic()
        if not self.sent.began:
            self.sent.began = now if due is None else now - self._pacer.elapsed
        meant_at = now if due is None else self.sent.began + due
        user_id, outcome = self._expectation.of(record)
        waiting = _Waiting(record, due, meant_at, user_id, outcome)
        await self._lanes[crc32(record.key or b"") % _LANES].put(waiting)

    async def run(self) -> None:
        """Pass on what was taken, in order per key, until cancelled. Raises `Failure`."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(self._pass_on(lane))

    async def flush(self) -> None:
        """Return when all is stored, or at once where the replay is given up. Raises `Failure`."""
        if (replay := asyncio.current_task()) is not None and replay.cancelling():
            return
        for lane in self._lanes:
            await lane.join()
        await self._topic.flush()

    async def _pass_on(self, lane: "asyncio.Queue[_Waiting]") -> None:
        while True:
            batch = [await lane.get()]
            while not lane.empty():
                batch.append(lane.get_nowait())
            users = [one.user_id for one in batch if one.user_id is not None]
            await asyncio.gather(*map(self._changed, dict.fromkeys(filter(self._is_to_change, users))))
            for waiting in batch:
                await self._topic.put(self._noted(waiting), waiting.due)
                lane.task_done()

    def _is_to_change(self, user_id: str) -> bool:
        drawn = self._share == 1 or self._dice.random() < self._share
        return drawn and not self._user(user_id).skipped

    async def _changed(self, user_id: str) -> None:
        user = self._user(user_id)
        user.version = max(user.version, await self._change(user_id))

    def _noted(self, waiting: _Waiting) -> Record:
        if waiting.user_id is None:
            self.sent.others[waiting.outcome] += 1
            return waiting.record
        user = self._user(waiting.user_id)
        number = (NUMBER, b"%d" % len(user.sent_at))
        user.meant_at.append(waiting.meant_at)
        user.sent_at.append(time.monotonic())
        user.versions.append(user.version)
        return structs.replace(waiting.record, headers=[*waiting.record.headers, number])

    def _user(self, user_id: str) -> UserEvents:
        return self.sent.users.get(user_id) or self._new(user_id)

    def _new(self, user_id: str) -> UserEvents:
        seed = self._people.get(user_id)
        if seed is None:
            user = UserEvents(skipped="skipped_unknown_user")
        elif seed.kind in _SKIPPED:
            user = UserEvents(skipped=_SKIPPED[seed.kind])
        else:
            user = UserEvents(address=fold(seed.address))
        self.sent.users[user_id] = user
        return user
