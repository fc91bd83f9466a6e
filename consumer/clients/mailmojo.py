"""Mailmojo's REST API: one contact, one list (`reference/mailmojo.md`). Paths end with a slash, always."""

from typing import Any, Literal

from consumer.clients.errors import Rejected, Unavailable, UnknownList
from consumer.clients.guard import RequestGuard
from consumer.clients.transport import Transport, Turn
from consumer.clients.verdicts import detail
from consumer.clients.wire import Answer, segment
from schemas.decoding import Page, decode_page
from schemas.mailmojo import Contact, decode_contact


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
            return None
        try:
            return decode_contact(answer.body)
        except ValueError as error:  # msgspec's errors name the place, never the value
            raise Unavailable("mailmojo", "get_contact", answer.status, f"an unreadable answer: {error}") from None

    async def patch_contact(self, turn: Turn, email: str, body: Any) -> Contact | None:
        """Change the contact and return its echo, or None when the accepted write came back without a readable one.

        Raises:
            Rejected: refused; also when the contact is gone (404).
        """
        answer = await turn.request("PATCH", _contact(email), operation="patch_contact", json=body, accept={404})
        if answer.status == 404:
            raise Rejected("mailmojo", "patch_contact", 404, detail(answer.body))
        return _echo(answer)

    async def add_subscriber(self, turn: Turn, body: Any) -> Contact | None:
        """Put the contact on the list, made if need be, and return its echo as `patch_contact` does.

        Raises:
            UnknownList: Mailmojo does not know the list (404).
        """
        path = f"{self._list}subscribers/"
        answer = await turn.request("POST", path, operation="add_subscriber", json=body, accept={404})
        if answer.status == 404:
            raise UnknownList("mailmojo", "add_subscriber", 404, detail(answer.body))
        return _echo(answer)

    async def listed(
        self, which: Literal["subscribers", "unsubscribed"], limit: int, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return contacts of our list as they come, blank values left out.

        What `offset` does is unknown, so the first call goes without it.

        Raises:
            Rejected: refused, or there is no such call (404, 405).
        """
        operation = f"list_{which}"
        params = {"limit": limit} | ({"offset": offset} if offset else {})
        async with self.turn(1) as turn:
            path = f"{self._list}{which}/"
            answer = await turn.request("GET", path, operation=operation, params=params, accept={404, 405})
        if answer.status in {404, 405}:
            raise Rejected("mailmojo", operation, answer.status, detail(answer.body))
        try:
            page: Page[dict[str, Any]] = decode_page(answer.body, dict)
        except ValueError as error:
            raise Unavailable("mailmojo", operation, answer.status, f"an unreadable answer: {error}") from None
        return page.items

    async def probe(self) -> None:
        """Make a call that depends on no contact.

        Raises:
            UnknownList: Mailmojo does not know the list (404).
        """
        async with self.turn(1) as turn:
            answer = await turn.request("GET", self._list, operation="get_list", accept={404})
        if answer.status == 404:
            raise UnknownList("mailmojo", "get_list", 404, detail(answer.body))


def _contact(email: str) -> str:
    return f"/v1/contacts/{segment(email)}/"


def _echo(answer: Answer) -> Contact | None:
    try:
        return decode_contact(answer.body)
    except ValueError:  # the write was accepted, and an unreadable echo does not undo it
        return None
