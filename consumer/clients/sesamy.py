"""Sesamy's Management API: a user's state, with as few calls as its answers allow (`docs/reference/sesamy.md`)."""

import asyncio
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import Struct, ValidationError

from consumer.clients.errors import Unavailable
from consumer.clients.guard import RequestGuard
from consumer.clients.http import Answer
from consumer.clients.paging import read, read_page, read_whole
from consumer.clients.transport import Transport, Turn, segment
from consumer.mapping.state import UserState
from schemas.decoding import Contradiction, Page, convert
from schemas.sesamy import Contract, Entitlement, Profile, Transaction, decode_profile, ids_of

_Item = TypeVar("_Item", Contract, Entitlement, Transaction)

_READS: Final = 4
"""Permits of one turn: profile, contracts, entitlements, transactions. Further pages take more, one by one."""

_PAGE: Final = 100
"""Entries to ask for at a time (assumption: no bound on `limit` is documented)."""

_MOST_PAGES: Final = 100
_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_SECONDS: Final = 600.0
"""Bounds of everything that is listed of one user: ten thousand entries do not belong to one."""


class ListedUser(Struct, frozen=True):
    """A user in a list. None stands for what cannot be read: one odd profile must not hide the others."""

    user_id: str | None
    profile: Profile | None


class SesamyClient:
    """Reads users. Every method raises `ApiError` when a call fails."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def turn(self, guard: RequestGuard | None = None) -> Turn:
        """Take the permits that one user's reads need, in one turn. What is not used goes back to the quota.

        Everything read in this turn was asked for after its beginning. `guard` decides about each request.
        """
        return self._transport.turn(_READS, guard)

    async def profile(self, turn: Turn, user_id: str) -> Profile | None:
        """Return the profile, or None when Sesamy does not know the user."""
        path = f"/management/users/{segment(user_id)}"
        answer = await turn.request("GET", path, operation="get_user", accept={404})
        if answer.status == 404:
            return None
        return read(turn, "get_user", answer, lambda body: decode_profile(body, user_id))

    async def rest(self, turn: Turn, user_id: str, profile: Profile) -> UserState:
        """Return the user's whole state. Without a contract there is no payment to ask for."""
        lists = _UserLists(turn, user_id, profile)
        try:
            async with asyncio.TaskGroup() as tasks:
                entitlements = tasks.create_task(lists.all("entitlements", Entitlement, paged=False))
                contracts = await lists.all("contracts", Contract)
                transactions = await lists.all("transactions", Transaction) if contracts else ()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the caller's guard raises what it knows, too
        return UserState(
            user_id=user_id,
            profile=profile,
            contracts=contracts,
            entitlements=entitlements.result(),
            transactions=transactions,
        )

    async def list_of(
        self, turn: Turn, operation: str, user_id: str
    ) -> tuple[Contract | Entitlement | Transaction, ...]:
        """Return one list of a user by the name of its call, such as `list_contracts`."""
        lists = _UserLists(turn, user_id, None)
        match operation:
            case "list_contracts":
                return await lists.all("contracts", Contract)
            case "list_entitlements":
                return await lists.all("entitlements", Entitlement, paged=False)
            case _:
                return await lists.all("transactions", Transaction)

    async def users(self, offset: int, limit: int, turn: Turn | None = None) -> Page[ListedUser]:
        """Return the users from `offset` on, `limit` of them or as many as the API gives at a time.

        Without a turn to ask in it takes one of its own. Their order is assumed to stay the same from page to page.
        """
        async with self._transport.turn(1) if turn is None else nullcontext(turn) as its:
            page = await self._users_page(its, offset, {"limit": limit, "offset": offset})
        return Page([_listed(item) for item in page.items], page.total, more=page.more)

    async def probe(self) -> None:
        """Make a call that depends on no user. Raises `ApiError` when the API is of no use."""
        async with self._transport.turn(1) as turn:
            await self._users_page(turn, 0, {"limit": 1})

    async def _users_page(self, turn: Turn, offset: int, params: dict[str, int]) -> Page[dict[str, Any]]:
        answer = await turn.request("GET", "/management/users", operation="list_users", params=params)
        return read_page(turn, "list_users", answer, dict, "users", offset=offset)


class _UserLists:
    """The lists of one user, all together bounded in pages, bytes and time."""

    def __init__(self, turn: Turn, user_id: str, profile: Profile | None) -> None:
        """Ask in this turn; without a profile it is not known which other ids the user has."""
        self._turn = turn
        self._user_id = user_id
        self._ids = None if profile is None else ids_of(profile) | {user_id}
        self._pages = 0
        self._bytes = 0
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    async def all(self, name: str, kind: type[_Item], *, paged: bool = True) -> tuple[_Item, ...]:
        """Return one list.

        Entitlements have neither `limit` nor `offset` in the reference: they are asked for without, and only an answer
        that says that there are more is followed.
        """
        page = partial(self._page, name, kind, paged)
        items = await read_whole(self._turn, f"list_{name}", page, lambda item: item.id)
        return tuple({item.id: item for item in items}.values())

    async def _page(self, name: str, kind: type[_Item], paged: bool, offset: int) -> tuple[Page[_Item], int | None]:  # noqa: FBT001 - bound by `partial`
        operation = f"list_{name}"
        window = {"limit": _PAGE, "offset": offset} if paged or offset else {}
        params: dict[str, str | int] = {"userId": self._user_id, **window}
        answer = await self._turn.request("GET", f"/management/{name}", operation=operation, params=params)
        self._count(operation, answer)
        found = read_page(self._turn, operation, answer, kind, name, offset=offset, check=self._check_owner)
        return found, _PAGE if window else None

    def _check_owner(self, item: _Item) -> None:
        if self._ids is not None and item.user_id is not None and str(item.user_id) not in self._ids:
            raise Contradiction("an item of another user")

    def _count(self, operation: str, answer: Answer) -> None:
        self._pages += 1
        self._bytes += len(answer.body)
        if self._pages > _MOST_PAGES:
            raise Unavailable("sesamy", operation, answer.status, f"more than {_MOST_PAGES} pages for one user")
        if self._bytes > _MOST_BYTES:
            raise Unavailable("sesamy", operation, answer.status, f"more than {_MOST_BYTES} bytes for one user")
        if self._clock() - self._began > _MOST_SECONDS:
            raise Unavailable("sesamy", operation, answer.status, f"more than {_MOST_SECONDS:g} s for one user")


def _listed(item: dict[str, Any]) -> ListedUser:
    user_id = item.get("userId") or item.get("id")
    try:
        profile = convert(item, Profile)
    except ValidationError:
        profile = None
    return ListedUser(str(user_id) if isinstance(user_id, str | int) and user_id else None, profile)
