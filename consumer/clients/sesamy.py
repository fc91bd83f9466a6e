"""Sesamy's Management API: a user's state, with as few calls as its answers allow (`reference/sesamy.md`)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct, ValidationError

from consumer.clients.errors import ApiError, Unavailable
from consumer.clients.guard import RequestGuard
from consumer.clients.transport import Transport, Turn
from consumer.clients.wire import Answer, segment
from consumer.mapping.state import UserState
from schemas.decoding import Page, convert, decode_page
from schemas.sesamy import Contract, Entitlement, Profile, Transaction, decode_profile

_T = TypeVar("_T")
_Item = TypeVar("_Item", Contract, Entitlement, Transaction)

_READS: Final = 4
"""Permits of one turn: profile, contracts, entitlements, transactions. Further pages take more, one by one."""

_PAGE: Final = 100
"""Entries to ask for at a time (assumption: no bound on `limit` is documented)."""

_MOST_PAGES: Final = 100
"""A list that goes on after so many pages is no list of one user."""


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
        return None if answer.status == 404 else _decoded("get_user", answer, decode_profile)

    async def rest(self, turn: Turn, user_id: str, profile: Profile) -> UserState:
        """Return the user's whole state. Without a contract there is no payment to ask for."""
        try:
            async with asyncio.TaskGroup() as tasks:
                entitlements = tasks.create_task(self._list(turn, "entitlements", Entitlement, user_id, paged=False))
                contracts, transactions = await self._contracts_and_transactions(turn, user_id)
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            if not isinstance(first, ApiError):
                raise
            raise first from None
        return UserState(
            user_id=user_id,
            profile=profile,
            contracts=contracts,
            entitlements=entitlements.result(),
            transactions=transactions,
        )

    async def users(self, offset: int, limit: int) -> Page[ListedUser]:
        """Return the users from `offset` on, `limit` of them or as many as the API gives at a time.

        Their order is assumed to stay the same from page to page.
        """
        operation, params = "list_users", {"limit": limit, "offset": offset}
        async with self._transport.turn(1) as turn:
            answer = await turn.request("GET", "/management/users", operation=operation, params=params)
        page: Page[dict[str, Any]] = _decoded(operation, answer, lambda body: decode_page(body, dict))
        return Page([_listed(item) for item in page.items], page.total)

    async def probe(self) -> None:
        """Make a call that depends on no user. Raises `ApiError` when the API is of no use."""
        async with self._transport.turn(1) as turn:
            await turn.request("GET", "/management/users", operation="list_users", params={"limit": 1})

    async def _contracts_and_transactions(
        self, turn: Turn, user_id: str
    ) -> tuple[tuple[Contract, ...], tuple[Transaction, ...]]:
        contracts = await self._list(turn, "contracts", Contract, user_id)
        transactions = await self._list(turn, "transactions", Transaction, user_id) if contracts else ()
        return contracts, transactions

    async def _list(
        self, turn: Turn, name: str, kind: type[_Item], user_id: str, *, paged: bool = True
    ) -> tuple[_Item, ...]:
        """Follow the pages until one is short or the total is reached.

        Entitlements have neither `limit` nor `offset` in the reference: they are asked for without, and only an answer
        that says that there are more is followed.
        """
        operation = f"list_{name}"
        found: dict[str | int, _Item] = {}
        received = 0
        for _ in range(_MOST_PAGES):
            window = {"limit": _PAGE, "offset": received} if paged or received else {}
            answer = await turn.request(
                "GET", f"/management/{name}", operation=operation, params={"userId": user_id, **window}
            )
            page: Page[_Item] = _decoded(operation, answer, lambda body: decode_page(body, kind))
            known = len(found)
            found.update((item.id, item) for item in page.items)
            received += len(page.items)
            if _is_last(page, received, asked=_PAGE if window else None):
                return tuple(found.values())
            if len(found) == known:
                raise Unavailable("sesamy", operation, answer.status, "pages repeat: the API ignores the offset")
        raise Unavailable("sesamy", operation, None, f"more than {_MOST_PAGES} pages for one user")


def _listed(item: dict[str, Any]) -> ListedUser:
    user_id = item.get("userId") or item.get("id")
    try:
        profile = convert(item, Profile)
    except ValidationError:
        profile = None
    return ListedUser(str(user_id) if isinstance(user_id, str | int) and user_id else None, profile)


def _is_last(page: Page[_Item], received: int, *, asked: int | None) -> bool:
    if not page.items:
        return True
    if page.total is not None:
        return received >= page.total  # a short page may be one that the API cut
    # More than was asked for: the API does not page, and this was all.
    return asked is None or len(page.items) != asked


def _decoded(operation: str, answer: Answer, decode: Callable[[bytes], _T]) -> _T:
    try:
        return decode(answer.body)
    except ValueError as error:  # msgspec's errors name the place, never the value
        raise Unavailable("sesamy", operation, answer.status, f"an unreadable answer: {error}") from None
