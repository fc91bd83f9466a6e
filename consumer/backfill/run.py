"""The backfill itself: page by page, some requests at a time, each time with a checkpoint behind them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from consumer.backfill.checkpoint import Checkpoint
from consumer.backfill.pages import UserPages, Users
from consumer.clients.sesamy import ListedUser
from consumer.mapping.person import address, is_guest
from schemas.events import is_usable_id

Kind = Literal["requested", "guest", "without_email", "unusable"]

_CHECKPOINTS: Final = 400
"""At least so many in a whole backfill: a kill makes a four-hundredth of the users be asked for twice at most."""

_LARGEST: Final = 100
"""Users between two checkpoints, however many there are."""

_LOOK_EVERY: Final = 1.0
"""Seconds between looks at a backlog that is too long."""


class Steps(Struct, frozen=True):
    """What a backfill does to the outside."""

    request: Callable[[Sequence[str]], Awaitable[object]]
    """Store a request for each of these users."""
    save: Callable[[Checkpoint], Awaitable[None]]
    backlog: Callable[[], Awaitable[int]]
    """Count what waits for the service."""
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


class Backfill:
    """One run. What it has may be looked at while it runs."""

    def __init__(
        self,
        pages: UserPages,
        steps: Steps,
        start: Checkpoint,
        *,
        guest_prefixes: Sequence[str],
        ahead: int,
        limit: int | None = None,
    ) -> None:
        """Go on from `start`, at most `ahead` records ahead of the service, and end after `limit` requests."""
        self.offset = start.offset
        self.counts: Counter[str] = Counter(start.counts)
        self.total: int | None = None
        self.requested = 0
        """Requests of this run."""
        self.held = False
        self.complete = False
        self._waiting = 0
        self._requested_before = 0
        self._pages = pages
        self._steps = steps
        self._start = start
        self._guest_prefixes = guest_prefixes
        self._ahead = ahead
        self._limit = limit

    @property
    def waiting(self) -> int:
        """What waits for the service: what waited at the last look, and the requests since."""
        return self._waiting + self.requested - self._requested_before

    async def run(self) -> None:
        """Put the requests. Raises `ApiError` or `Failure`; what is in the checkpoint then is done."""
        async for page in self._pages.after(self.offset):
            self.total = page.total
            await self._keep_distance()
            step = max(1, min(_LARGEST, (page.total or page.offset + len(page.users)) // _CHECKPOINTS))
            for begin in range(0, len(page.users), step):
                if not await self._some(page, begin, step):
                    return
        self.complete = True

    async def _some(self, page: Users, begin: int, step: int) -> bool:
        """Ask for some users of the page; return False when that was the last request allowed."""
        wanted: list[str] = []
        passed = 0
        counts = Counter(self.counts)
        for user in page.users[begin : begin + step]:
            if self.requested + len(wanted) == self._limit:
                break
            kind = kind_of(user, self._guest_prefixes)
            counts[kind] += 1
            passed += 1
            if kind == "requested" and user.user_id is not None:
                wanted.append(user.user_id)
        await self._steps.request(wanted)
        self.offset, self.counts = page.offset + begin + passed, counts
        self.requested += len(wanted)
        await self._steps.save(
            Checkpoint(
                api_url=self._start.api_url,
                client_id=self._start.client_id,
                topic=self._start.topic,
                offset=self.offset,
                counts=self.counts,
            )
        )
        return self.requested != self._limit

    async def _keep_distance(self) -> None:
        """Wait while too much lies before the service: an event of a user would wait behind all of it."""
        while True:
            self._waiting, self._requested_before = await self._steps.backlog(), self.requested
            self.held = self._waiting >= self._ahead
            if not self.held:
                return
            await self._steps.sleep(_LOOK_EVERY)


def kind_of(user: ListedUser, guest_prefixes: Sequence[str]) -> Kind:
    """Tell what becomes of a user. A profile that cannot be read is the service's business, like one of its events."""
    if user.user_id is None or not is_usable_id(user.user_id):
        return "unusable"
    if user.profile is None:
        return "requested"
    if is_guest(user.user_id, user.profile, guest_prefixes):
        return "guest"
    return "requested" if address(user.profile) else "without_email"
