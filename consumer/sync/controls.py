"""Control users: known to exist, and read through the same call when it failed for somebody else.

A user for whom the call succeeded before is one, and so is a user whom Sesamy lists. For a contact it is one that
was read before. Writes have no control.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from msgspec.structs import replace

from consumer.clients.errors import Api, ApiError, LocalFault, Throttled, Unavailable
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.sesamy import SesamyClient
from consumer.clients.transport import Turn
from consumer.mapping.person import normalised, same_address
from consumer.sync.calls import CONTROL, Call, Failure
from consumer.sync.contents import ANYTHING
from consumer.sync.evidence import Evidence
from consumer.sync.remedies import remedy
from schemas.mailmojo import Contact, decode_contact
from schemas.sesamy import Profile

GET_USER: Final[Call] = ("sesamy", "get_user")
GET_CONTACT: Final[Call] = ("mailmojo", "get_contact")
WRITES: Final[tuple[Call, ...]] = (("mailmojo", "patch_contact"), ("mailmojo", "add_subscriber"))
"""A contact that was written is known to exist, too."""

READS: Final[frozenset[Call]] = frozenset(
    {
        GET_USER,
        ("sesamy", "list_contracts"),
        ("sesamy", "list_entitlements"),
        ("sesamy", "list_transactions"),
        GET_CONTACT,
    }
)
"""Calls with a control."""

_LISTED: Final = 20
"""Users that are taken from Sesamy's list at a time."""

_TRIES: Final = 3
"""Control users that are looked for at once: some may be gone by now."""


class Controls:
    """Reads control users, one at a time for each call, and tells the evidence what came of it."""

    def __init__(self, sesamy: SesamyClient, mailmojo: MailmojoClient, evidence: Evidence) -> None:
        self._sesamy = sesamy
        self._mailmojo = mailmojo
        self._evidence = evidence
        self._listed: deque[str] = deque()
        self._locks = {call: asyncio.Lock() for call in READS}
        self._done = dict.fromkeys(READS, 0)
        self._comparing = asyncio.Lock()
        self._compared = 0
        self._hidden = False

    async def profile(self, turn: Turn, user_id: str) -> Profile | None:
        """Return the user's profile; None only while the same call finds another user.

        Raises:
            ApiError: the call failed, or it finds nobody.
        """
        was_down = self._evidence.is_down(GET_USER)
        asked = Failure(began=self._evidence.clock(), status=404, text="")
        profile = await self._sesamy.profile(turn, user_id)
        if profile is not None:
            return profile
        if not self._evidence.is_refuted(user_id, GET_USER, asked):
            await self.read(GET_USER, turn, but=user_id)
            if not self._evidence.is_refuted(user_id, GET_USER, asked):
                raise Unavailable("sesamy", "get_user", 404, "no other user is found by this call either")
        # The call may have come back since this user was not found.
        return await self._sesamy.profile(turn, user_id) if was_down else None

    async def contact(self, turn: Turn, user_id: str, email: str) -> Contact | None:
        """Return the contact; None only where the same call finds a contact that Mailmojo lists, if it lists any.

        A contact that is there and is not found would be created, which replaces its tags (promise P10).

        Raises:
            ApiError: the call failed, or it finds no contact at all.
        """
        was_down = self._evidence.is_down(GET_CONTACT)
        asked = Failure(began=self._evidence.clock(), status=404, text="", content=ANYTHING)
        contact = await self._mailmojo.get_contact(turn, email)
        if contact is not None:
            return contact
        if not self._evidence.is_refuted(user_id, GET_CONTACT, asked):
            await self._refuse_hidden(turn, user_id, email, asked)
        return await self._mailmojo.get_contact(turn, email) if was_down else None

    async def _refuse_hidden(self, turn: Turn, user_id: str, email: str, asked: Failure) -> None:
        """Raise `Unavailable` if the call finds no contact that Mailmojo lists; those who ask meanwhile share it."""
        seen = self._compared
        async with self._comparing:
            if self._compared == seen:
                self._hidden = await self._are_hidden(turn, user_id, email)
                self._compared += 1
            if not self._hidden:
                return
        error = Unavailable("mailmojo", "get_contact", 404, "contacts that Mailmojo lists are not found by this call")
        self._evidence.failed(CONTROL, GET_CONTACT, replace(asked, text=str(error), remedy=remedy(error)))
        raise error

    async def _are_hidden(self, turn: Turn, user_id: str, email: str) -> bool:
        """Tell whether Mailmojo lists contacts, and does not find them one by one."""
        known = [it for it in self._known_contacts(user_id) if not same_address(it, email)][:1]
        if known and await self._found(GET_CONTACT, turn, known[0]):
            return False
        try:
            with _guarded(turn, None):
                page = await self._mailmojo.listed("subscribers", _TRIES, turn=turn)
        except (Throttled, LocalFault):
            raise
        except ApiError:  # whether there is such a list is not known for sure
            return False
        listed = [it["email"] for it in page.items[:_TRIES] if isinstance(it.get("email"), str)]
        for address in listed:
            if await self._found(GET_CONTACT, turn, normalised(address)):
                return False
        return bool(listed)

    async def read(self, call: Call, turn: Turn, *, but: str = CONTROL) -> None:
        """Read a control user other than `but` in this turn; those who ask meanwhile share it."""
        if call not in READS:
            return
        seen = self._done[call]
        async with self._locks[call]:
            if self._done[call] == seen:
                await self._read(call, turn, but)
                self._done[call] += 1

    async def try_again(self, call: Call) -> None:
        """Read a control user in a turn of its own: is the call back?"""
        async with self._sesamy.turn() if call[0] == "sesamy" else self._mailmojo.turn(1) as turn:
            await self.read(call, turn)

    async def _read(self, call: Call, turn: Turn, but: str) -> None:
        began = self._evidence.clock()
        tries = 0
        try:
            async for user_id in self._candidates(call, turn, but):
                began = self._evidence.clock()
                if await self._found(call, turn, user_id):
                    return
                if user_id in self._listed:
                    self._listed.remove(user_id)
                tries += 1
                if tries == _TRIES:
                    break
        except (Throttled, LocalFault):
            return
        except ApiError as error:
            about = Failure(began=began, status=error.status, text=_as_failure_of(call, error), remedy=remedy(error))
            self._evidence.failed(CONTROL, call, about)
            return
        if tries:
            text = f"{call[0]} {call[1]}: HTTP 404: users that are known to exist are not found"
            missing = ApiError("mailmojo" if call == GET_CONTACT else "sesamy", call[1], 404)
            about = Failure(began=began, status=404, text=text, remedy=remedy(missing))
            # Of an account's contacts one that is not there says nothing.
            self._evidence.failed(CONTROL, call, replace(about, content=ANYTHING) if call == GET_CONTACT else about)

    async def _candidates(self, call: Call, turn: Turn, but: str) -> AsyncIterator[str]:
        """Yield user ids, or addresses of contacts, that are known to exist."""
        state = self._evidence.state(call)
        recent = [
            it for it in reversed(state.recent()) if it.user_id not in {but, CONTROL} and state.is_new(it.user_id)
        ]
        if call == GET_CONTACT:
            for address in self._known_contacts(but):
                yield address
            return
        tried = set()
        if not state.is_down and recent:
            tried.add(recent[0].user_id)
            yield recent[0].user_id
        if not any(self._usable(user_id, call, but) for user_id in self._listed):
            await self._list(turn, may_fail=bool(recent))
        self._listed.rotate(-1)  # one that fails for a reason of its own must not be asked for ever
        for user_id in [*self._listed, *(it.user_id for it in recent)]:
            if user_id not in tried and self._usable(user_id, call, but):
                tried.add(user_id)
                yield user_id

    def _known_contacts(self, but: str) -> list[str]:
        """Return addresses of contacts that were read or written, the latest first."""
        state = self._evidence.state(GET_CONTACT)
        recent = [
            it for it in reversed(state.recent()) if it.user_id not in {but, CONTROL} and state.is_new(it.user_id)
        ]
        for write in WRITES:
            recent += [it for it in self._evidence.state(write).recent() if self._usable(it.user_id, GET_CONTACT, but)]
        return list(dict.fromkeys(filter(None, (_address(success.body) for success in recent))))

    def _usable(self, user_id: str, call: Call, but: str) -> bool:
        """Return whether the user may tell: while the call is down everybody fails, so anybody may."""
        state = self._evidence.state(call)
        return user_id not in {but, CONTROL} and (state.is_down or state.is_new(user_id))

    async def _list(self, turn: Turn, *, may_fail: bool) -> None:
        try:
            with _guarded(turn, None):
                page = await self._sesamy.users(0, _LISTED, turn)
        except ApiError as error:
            if may_fail and not isinstance(error, Throttled | LocalFault):
                return
            raise
        self._listed = deque(user.user_id for user in page.items if user.user_id)

    async def _found(self, call: Call, turn: Turn, user_id: str) -> bool:
        """Make the call for this user. The evidence hears of it through the guard. False: there is no such user."""
        with _guarded(turn, _ControlGuard(self._evidence, user_id)):
            if call == GET_CONTACT:
                return await self._mailmojo.get_contact(turn, user_id) is not None
            if call == GET_USER:
                return await self._sesamy.profile(turn, user_id) is not None
            await self._sesamy.list_of(turn, call[1], user_id)
            return True


class _ControlGuard:
    """Notes the successes of a control user; nothing keeps these requests from being sent."""

    def __init__(self, evidence: Evidence, user_id: str) -> None:
        self._evidence = evidence
        self._user_id = user_id

    def sending(self, _api: Api, _operation: str, /, *, writes: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's name
        return nullcontext()

    def answered(self, api: Api, operation: str, body: bytes, /) -> None:
        self._evidence.succeeded(self._user_id, (api, operation), body)


@contextmanager
def _guarded(turn: Turn, guard: _ControlGuard | None) -> Iterator[None]:
    """Send with another guard meanwhile: what is sent here is not the sync's own."""
    own, turn.guard = turn.guard, guard
    try:
        yield
    finally:
        turn.guard = own


def _as_failure_of(call: Call, error: ApiError) -> str:
    if (error.api, error.operation) == call:
        return str(error)
    return f"{' '.join(call)}: no control user: {error}"


def _address(body: bytes) -> str | None:
    try:
        return normalised(decode_contact(body).email)
    except ValueError:
        return None
