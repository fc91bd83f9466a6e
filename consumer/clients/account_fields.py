"""The account (custom) fields that a contact's values need: created when missing, once per process.

No public source has the endpoint (`docs/reference/mailmojo.md`, account fields), so everything about it is an
assumption, made here only. Where the assumption fails the service goes on without: `custom` is still written.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Literal

import structlog
from msgspec import Struct

from consumer.clients.errors import Rejected, Unauthorized, Unavailable
from consumer.clients.http import Answer
from consumer.clients.paging import read_page, read_whole
from consumer.clients.single_flight import SingleFlight
from consumer.clients.swagger import fields_path
from consumer.clients.transport import Transport, Turn
from consumer.clock import Clock
from consumer.ops.metrics import Metrics
from schemas.decoding import Page, decode_json
from schemas.mailmojo import AccountField

_log = structlog.get_logger("account_fields")

_NOT_HERE: Final = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})
"""Answers of a path that is not the one (404 and 405 by the reference; the others can mean nothing else)."""

_CREATE: Final = "create_field"
_NAMES: Final = ("fields", "custom_fields")
_WRAPPERS: Final = {*_NAMES, "data", "items", "error", "errors"}
"""Keys of an object that is a list of fields, or a failure to list them; any other object is something else."""

_LOOK_AGAIN: Final = 600.0
"""Seconds after which the fields are looked for again where there was no way to them: it may have been an outage."""


class Look(Struct, frozen=True):
    """What a look at the account's fields found."""

    missing: tuple[AccountField, ...] = ()
    degraded: str | None = None
    """Why the fields can be neither listed nor created; None when they can."""


class _NoWayError(Exception):
    """The endpoint is not what we assume it to be. The text says how that showed."""


class AccountFields:
    """Sees to it, before the first sync, that the account has the fields that syncs write."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        wanted: Sequence[AccountField],
        metrics: Metrics,
        *,
        prove: Callable[[Turn], Awaitable[None]] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Look for the fields at `path`, and where Mailmojo's own description says if they are not there.

        `prove` raises `ApiError` unless the API itself answers (`MailmojoClient.prove`): what is in front of it says
        nothing about the path.
        """
        self._transport = transport
        self._path = path
        self._wanted = tuple(wanted)
        self._prove = prove
        self._clock = clock
        self._look_again = 0.0
        self._gauge = metrics.account_fields_degraded
        self._gauge.set(0)
        self._ensure_once = SingleFlight(self._ensure)
        self.status: Literal["unknown", "complete", "degraded"] = "unknown"
        self.reason: str | None = None

    @property
    def state(self) -> dict[str, str | None]:
        """What this process knows of the fields, for the status page."""
        return {"status": self.status, "reason": self.reason}

    @property
    def settled(self) -> bool:
        """Whether `ensure` has nothing to do just now."""
        return self.status == "complete" or (self.status == "degraded" and self._clock() < self._look_again)

    async def ensure(self) -> None:
        """Create the fields that are missing, unless this process has done so already or just found no way to.

        Several instances may do it at once: who is refused because another was faster looks again.

        Raises:
            Unauthorized, Throttled, Unavailable: not known yet; the next call tries again.
        """
        if not self.settled:
            await self._ensure_once()

    async def look(self) -> Look:
        """Return which fields are missing, and create nothing. Raises as `ensure` does."""
        async with self._transport.turn(1) as turn:
            try:
                _, names = await self._find(turn)
            except _NoWayError as error:
                return Look(degraded=str(error))
        return Look(missing=self._missing(names))

    async def _ensure(self) -> None:
        async with self._transport.turn(1) as turn:
            try:
                await self._create_missing(turn)
            except _NoWayError as error:
                self._look_again = self._clock() + _LOOK_AGAIN
                if self.reason != str(error):
                    self.status, self.reason = "degraded", str(error)
                    self._gauge.set(1)
                    _log.warning("account_fields.degraded", reason=self.reason)
            else:
                self.status, self.reason = "complete", None
                self._gauge.set(0)

    async def _create_missing(self, turn: Turn) -> None:
        path, names = await self._find(turn)
        refusal: Rejected | None = None
        doubtful = False
        for field in self._missing(names):
            body = {"name": field.name, "type": field.type}
            try:
                answer = await turn.request("POST", path, operation=_CREATE, json=body, accept=_NOT_HERE)
            except Rejected as error:
                refusal = error
                continue
            if answer.status in _NOT_HERE:
                raise _NoWayError(f"{path} lists account fields but creates none (HTTP {answer.status})")
            doubtful = doubtful or not _is_field(answer, field)
        missing = self._missing(await self._list(turn, path) or ()) if refusal is not None or doubtful else ()
        if not missing:
            return
        named = ", ".join(field.name for field in missing)
        if refusal is not None:
            raise _NoWayError(f"{refusal}; missing: {named}")
        raise Unavailable("mailmojo", _CREATE, 200, f"accepted with an unreadable answer, and not applied: {named}")

    async def _find(self, turn: Turn) -> tuple[str, Collection[str]]:
        """Return the path of the account's fields and their names."""
        names = await self._list(turn, self._path)
        if names is not None:
            return self._path, names
        other = await self._described_path(turn)
        names = await self._list(turn, other) if other else None
        if other is None or names is None:
            raise _NoWayError(f"there is no {self._path}, nor does Mailmojo's description name a path that answers")
        return other, names

    async def _list(self, turn: Turn, path: str) -> Collection[str] | None:
        """Return the names of the account's fields, or None when this is not their path.

        Whether the list has pages is unknown: only an answer that says that there are more is followed.
        """
        operation = "list_fields"
        found = True

        async def page(offset: int) -> tuple[Page[AccountField], int | None]:
            nonlocal found
            answer = await turn.request(
                "GET", path, operation=operation, params={"offset": offset} if offset else None, accept=_NOT_HERE
            )
            if answer.status in _NOT_HERE and offset:
                raise Unavailable("mailmojo", operation, answer.status, "the list has no second page")
            if answer.status in _NOT_HERE or not _is_list(answer):
                await self._prove_itself(turn, answer)
                found = False
                return Page([]), None
            return read_page(turn, operation, answer, AccountField, *_NAMES, offset=offset), None

        try:
            fields = await read_whole(turn, operation, page, lambda field: field.name)
        except Rejected as error:
            raise _NoWayError(str(error)) from None
        return {field.name.strip() for field in fields} if found else None

    async def _prove_itself(self, turn: Turn, answer: Answer) -> None:
        """Return if it is Mailmojo that says that this is not the path, and not something in front of it."""
        if self._prove is not None and answer.body.strip():
            await self._prove(turn)

    async def _described_path(self, turn: Turn) -> str | None:
        """Return the path in the Swagger document at the API's root, if it has one."""
        try:
            answer = await turn.request("GET", "/", operation="get_description", accept=_NOT_HERE)
            return None if answer.status in _NOT_HERE else fields_path(decode_json(answer.body))
        # Whether the document needs other credentials is not known; the contacts' own calls judge ours.
        except (Rejected, Unauthorized, ValueError):
            return None

    def _missing(self, names: Collection[str]) -> tuple[AccountField, ...]:
        return tuple(field for field in self._wanted if field.name not in names)


def _is_list(answer: Answer) -> bool:
    try:
        found = decode_json(answer.body)
    except ValueError:
        return False
    return isinstance(found, list) or (isinstance(found, dict) and not _WRAPPERS.isdisjoint(found))


def _is_field(answer: Answer, field: AccountField) -> bool:
    """Tell whether the answer of a creation names the field that was asked for."""
    try:
        found = decode_json(answer.body)
    except ValueError:
        return False
    name = found.get("name") if isinstance(found, dict) else None
    return isinstance(name, str) and name.strip() == field.name
