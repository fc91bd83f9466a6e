"""Fakes of the API clients over one world in memory: what a sync calls, with whom, and when, without HTTP.

Each request asks the turn's guard at the moment of sending, and tells it of the response, as `clients/transport.py`
does.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Self

import msgspec

from consumer.clients.errors import Api, ApiError
from consumer.clients.guard import RequestGuard
from consumer.clients.sesamy import ListedUser
from consumer.mapping.state import UserState
from schemas.decoding import Page
from schemas.mailmojo import Contact, decode_contact, encodable
from schemas.sesamy import Profile, decode_profile

LATENCY = 0.01


class Apis:
    """Users and contacts, and everything that was sent."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.contacts: dict[str, dict[str, Any]] = {}
        self.sent: list[tuple[str, str]] = []
        """Operation, and user id or address."""
        self.fails: dict[str, Exception] = {}
        """By operation, for everybody."""
        self.takes: dict[str, float] = {}
        """Seconds by operation; otherwise `LATENCY`."""
        self.on: dict[str, Callable[[str], object]] = {}
        """Called when a request of the operation is answered."""
        self.permit_waits: list[float] = []
        """Seconds that the next calls of `ready` wait for the quota."""
        self.drops: set[str] = set()
        """Custom fields that Mailmojo does not store."""

    def user(self, user_id: str, **profile: object) -> None:
        self.users[user_id] = {"userId": user_id, "email": f"{user_id}@example.no", **profile}

    def operations(self, *, of: str | None = None) -> list[str]:
        return [operation for operation, whom in self.sent if of in {None, whom}]

    def count(self, operation: str) -> int:
        return self.operations().count(operation)


class FakeTurn:
    """A turn at the quota, which is never used up, but may be waited for."""

    def __init__(self, apis: Apis, api: Api, guard: RequestGuard | None) -> None:
        self.guard = guard
        self.waited = 0.0
        self._apis = apis
        self._api: Api = api

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def ready(self) -> None:
        if self._apis.permit_waits:
            seconds = self._apis.permit_waits.pop(0)
            await asyncio.sleep(seconds)
            self.waited += seconds

    async def request(self, operation: str, whom: str, answer: Callable[[], bytes], *, writes: bool = False) -> bytes:
        guard = self.guard
        with nullcontext() if guard is None else guard.sending(self._api, operation, writes=writes):
            self._apis.sent.append((operation, whom))
            await asyncio.sleep(self._apis.takes.get(operation, LATENCY))
            if error := self._apis.fails.get(operation):
                raise error
            body = answer()
        if (told := self._apis.on.get(operation)) is not None:
            told(whom)
        if guard is not None:
            guard.answered(self._api, operation, body)
        return body


class FakeSesamy:
    def __init__(self, apis: Apis) -> None:
        self._apis = apis

    def turn(self, guard: RequestGuard | None = None) -> FakeTurn:
        return FakeTurn(self._apis, "sesamy", guard)

    async def profile(self, turn: FakeTurn, user_id: str) -> Profile | None:
        found = self._apis.users.get(user_id)
        if found is None:
            guard, turn.guard = turn.guard, None  # a 404 is no success of the call
            try:
                await turn.request("get_user", user_id, bytes)
            finally:
                turn.guard = guard
            return None
        return decode_profile(await turn.request("get_user", user_id, lambda: _encoded(found)), user_id)

    async def rest(self, turn: FakeTurn, user_id: str, profile: Profile) -> UserState:
        await turn.request("list_contracts", user_id, lambda: b'{"data": []}')
        return UserState(user_id=user_id, profile=profile)

    async def list_of(self, turn: FakeTurn, operation: str, user_id: str) -> tuple[()]:
        await turn.request(operation, user_id, lambda: b'{"data": []}')
        return ()

    async def users(self, _offset: int, limit: int, turn: FakeTurn) -> Page[ListedUser]:
        await turn.request("list_users", "", bytes)
        listed = [ListedUser(user_id, None) for user_id in self._apis.users][:limit]
        return Page(listed, len(self._apis.users), more=False)


class FakeMailmojo:
    def __init__(self, apis: Apis) -> None:
        self._apis = apis

    def turn(self, _permits: int, guard: RequestGuard | None = None) -> FakeTurn:
        return FakeTurn(self._apis, "mailmojo", guard)

    async def get_contact(self, turn: FakeTurn, email: str) -> Contact | None:
        body = await turn.request("get_contact", email, lambda: _encoded(self._apis.contacts.get(email)))
        return None if body == b"null" else decode_contact(body)

    async def patch_contact(self, turn: FakeTurn, email: str, body: dict[str, Any]) -> Contact:
        return await self._write(turn, "patch_contact", email, body)

    async def add_subscriber(self, turn: FakeTurn, body: dict[str, Any]) -> Contact:
        return await self._write(turn, "add_subscriber", body["email"], body)

    async def listed(self, which: str, limit: int, *, turn: FakeTurn) -> Page[dict[str, Any]]:
        await turn.request(f"list_{which}", "", bytes)
        return Page(list(self._apis.contacts.values())[:limit], None, more=False)

    async def _write(self, turn: FakeTurn, operation: str, email: str, body: dict[str, Any]) -> Contact:
        def write() -> bytes:
            sent = json.loads(_encoded(encodable(body)))
            there = self._apis.contacts.setdefault(email, {"email": email, "tags": [], "custom": {}})
            kept = {name: value for name, value in sent.get("custom", {}).items() if name not in self._apis.drops}
            there.update(sent | {"custom": there["custom"] | kept})
            if operation == "add_subscriber":
                there.pop("force_subscribe", None)
                there.setdefault("list_associations", []).append({"list_id": "1", "status": "a"})
            return _encoded(there)

        return decode_contact(await turn.request(operation, email, write, writes=True))


class FakeFields:
    """The account's fields: complete, unless a test says otherwise."""

    def __init__(self) -> None:
        self.settled = True
        self.ensured = 0
        self.fails: ApiError | None = None

    async def ensure(self) -> None:
        self.ensured += 1
        if self.fails is not None:
            raise self.fails
        self.settled = True


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value)
