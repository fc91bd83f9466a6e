"""Mailmojo's REST API: one contact, one list (`docs/reference/mailmojo.md`). Paths end with a slash, always."""

from contextlib import nullcontext
from typing import Any, Literal

from msgspec.structs import replace

from consumer.clients.errors import Rejected, Unavailable, UnknownList
from consumer.clients.guard import RequestGuard
from consumer.clients.http import Answer
from consumer.clients.paging import read, read_page
from consumer.clients.transport import Transport, Turn, segment
from consumer.clients.verdicts import detail
from consumer.mapping.contact import echo_differences
from consumer.mapping.person import same_address
from schemas.decoding import Contradiction, Page, decode_json
from schemas.mailmojo import Contact, decode_contact, decode_list, encodable


class MailmojoClient:
    """Reads and writes contacts. Every method raises `ApiError` when a call fails; none sends a write twice."""

    def __init__(self, transport: Transport, list_id: str) -> None:
        self._transport = transport
        self._list = f"/v1/lists/{segment(list_id)}/"

    def turn(self, permits: int, guard: RequestGuard | None = None) -> Turn:
        """Take so many permits of the quota in one turn, so that a GET and its write are one round trip apart.

        `guard` decides about each request.
        """
        return self._transport.turn(permits, guard)

    async def get_contact(self, turn: Turn, email: str) -> Contact | None:
        """Return the contact, or None when the account has none with this address (404, assumption)."""
        answer = await turn.request("GET", _contact(email), operation="get_contact", accept={404})
        if answer.status == 404:
            await self._prove_absence(turn, answer)
            turn.answered("get_contact", replace(answer, body=b""))  # no contact has this address, and none is shown
            return None
        return read(turn, "get_contact", answer, lambda body: _contact_of(body, email))

    async def patch_contact(self, turn: Turn, email: str, body: dict[str, Any]) -> Contact:
        """Change the contact and return it as it is since.

        Raises:
            Rejected: refused; also when the contact is gone (404).
            Unavailable: also when the write was accepted, its answer cannot be read and the contact does not show it.
        """
        operation, sent = "patch_contact", encodable(body)
        answer = await turn.request("PATCH", _contact(email), operation=operation, json=sent, accept={404})
        if answer.status == 404:
            if not _is_absence(answer):
                raise Unavailable("mailmojo", operation, 404, f"not an answer of the API: {detail(answer.body)}")
            raise Rejected("mailmojo", operation, 404, detail(answer.body))
        return await self._written(turn, operation, answer, email, body)

    async def add_subscriber(self, turn: Turn, body: dict[str, Any]) -> Contact:
        """Put the contact on the list, made if need be, and return it as `patch_contact` does.

        Raises:
            UnknownList: Mailmojo does not know the list (404).
            Unavailable: as for `patch_contact`.
        """
        operation, path = "add_subscriber", f"{self._list}subscribers/"
        answer = await turn.request("POST", path, operation=operation, json=encodable(body), accept={404})
        if answer.status == 404:
            raise UnknownList("mailmojo", operation, 404, detail(answer.body))
        return await self._written(turn, operation, answer, body["email"], body)

    async def listed(
        self, which: Literal["subscribers", "unsubscribed"], limit: int, offset: int = 0, turn: Turn | None = None
    ) -> Page[dict[str, Any]]:
        """Return contacts of our list as they come, blank values left out.

        What `offset` does is unknown, so the first call goes without it. Without a turn to ask in it takes one of its
        own.

        Raises:
            Rejected: refused, or there is no such call (404, 405).
        """
        operation = f"list_{which}"
        params = {"limit": limit} | ({"offset": offset} if offset else {})
        async with self.turn(1) if turn is None else nullcontext(turn) as its:
            path = f"{self._list}{which}/"
            answer = await its.request("GET", path, operation=operation, params=params, accept={404, 405})
            if answer.status == 404:
                await self._prove_absence(its, answer)
            if answer.status in {404, 405}:
                raise Rejected("mailmojo", operation, answer.status, detail(answer.body))
            return read_page(its, operation, answer, dict, which, "contacts", offset=None if offset else 0)

    async def probe(self) -> None:
        """Make a call that depends on no contact. Raises as `prove` does."""
        async with self.turn(1) as turn:
            await self.prove(turn)

    async def list_name(self) -> str:
        """Return the name of our list, empty where it has none. Raises as `prove` does."""
        async with self.turn(1) as turn:
            return await self._find_list(turn)

    async def prove(self, turn: Turn) -> None:
        """Make sure that the API itself answers, and not something in front of it: our list is found, as JSON.

        Raises:
            UnknownList: Mailmojo does not know the list (404).
        """
        await self._find_list(turn)

    async def _find_list(self, turn: Turn) -> str:
        answer = await turn.request("GET", self._list, operation="get_list", accept={404})
        if answer.status == 404:
            raise UnknownList("mailmojo", "get_list", 404, detail(answer.body))
        return read(turn, "get_list", answer, decode_list)

    async def _prove_absence(self, turn: Turn, answer: Answer) -> None:
        """Return if a 404 is Mailmojo's own.

        What its body looks like is unknown. A JSON object or an empty body is taken for Mailmojo's. Any other may come
        from something in front of it, which would answer everything like this: then our list is not found either.
        """
        if not _is_absence(answer):
            await self.prove(turn)

    async def _written(self, turn: Turn, operation: str, answer: Answer, email: str, body: dict[str, Any]) -> Contact:
        """Return the contact after an accepted write: its echo, or what a fresh read shows where that is unreadable."""
        try:
            found = _contact_of(answer.body, email)
        except ValueError:
            contact = await self.get_contact(turn, email)
            missing = ("the contact",) if contact is None else echo_differences(body, contact)
            if contact is None or missing:
                reason = f"accepted with an unreadable answer, and not applied: {', '.join(missing)}"
                raise Unavailable("mailmojo", operation, answer.status, reason) from None
            found = contact
        turn.answered(operation, answer)
        return found


def _contact(email: str) -> str:
    return f"/v1/contacts/{segment(email)}/"


def _contact_of(body: bytes, email: str) -> Contact:
    contact = decode_contact(body)
    if not same_address(contact.email, email):
        raise Contradiction("another contact")
    return contact


def _is_absence(answer: Answer) -> bool:
    """Tell whether the body of a 404 is one that the API itself may send."""
    if not answer.body.strip():
        return True
    try:
        return isinstance(decode_json(answer.body), dict)
    except ValueError:
        return False
