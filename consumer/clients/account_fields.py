"""The account (custom) fields that a contact's values need: created when missing, once per process.

No public source has the endpoint (`reference/mailmojo.md`, account fields), so everything about it is an assumption,
and this is its one place. Where the assumption fails the service goes on without: `custom` is still written.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal

import structlog
from msgspec import Struct

from consumer.clients.errors import Rejected, Unauthorized
from consumer.clients.single_flight import SingleFlight
from consumer.clients.swagger import fields_path
from consumer.clients.transport import Transport, Turn
from consumer.ops.metrics import Metrics
from schemas.decoding import decode_json, decode_page
from schemas.mailmojo import AccountField

_log = structlog.get_logger("account_fields")

_NOT_HERE: Final = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})
"""Answers of a path that is not the one (404 and 405 by the reference; the others can mean nothing else)."""


class Look(Struct, frozen=True):
    """What a look at the account's fields found."""

    missing: tuple[AccountField, ...] = ()
    degraded: str | None = None
    """Why the fields can be neither listed nor created; None when they can."""


class _NoWayError(Exception):
    """The endpoint is not what we assume it to be. The text says how that showed."""


class AccountFields:
    """Sees to it, before the first sync, that the account has the fields that syncs write."""

    def __init__(self, transport: Transport, path: str, wanted: Sequence[AccountField], metrics: Metrics) -> None:
        """Look for the fields at `path`, and where Mailmojo's own description says if they are not there."""
        self._transport = transport
        self._path = path
        self._wanted = tuple(wanted)
        self._gauge = metrics.account_fields_degraded
        self._gauge.set(0)
        self._ensure_once = SingleFlight(self._ensure)
        self.status: Literal["unknown", "complete", "degraded"] = "unknown"
        self.reason: str | None = None

    @property
    def state(self) -> dict[str, str | None]:
        """What this process knows of the fields, for the status page."""
        return {"status": self.status, "reason": self.reason}

    async def ensure(self) -> None:
        """Create the fields that are missing, unless this process has done so already or found no way to.

        Several instances may do it at once: who is refused because another was faster looks again.

        Raises:
            Unauthorized, Throttled, Unavailable: not known yet; the next call tries again.
        """
        if self.status == "unknown":
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
                self.status, self.reason = "degraded", str(error)
                self._gauge.set(1)
                _log.warning("account_fields.degraded", reason=self.reason)
            else:
                self.status = "complete"

    async def _create_missing(self, turn: Turn) -> None:
        path, names = await self._find(turn)
        refusal: Rejected | None = None
        for field in self._missing(names):
            body = {"name": field.name, "type": field.type}
            try:
                answer = await turn.request("POST", path, operation="create_field", json=body, accept=_NOT_HERE)
            except Rejected as error:
                refusal = error
                continue
            if answer.status in _NOT_HERE:
                raise _NoWayError(f"{path} lists account fields but creates none (HTTP {answer.status})")
        if refusal is not None and (missing := self._missing(await self._list(turn, path) or ())):
            raise _NoWayError(f"{refusal}; missing: {', '.join(field.name for field in missing)}")

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
        """Return the names of the account's fields, or None when this is not their path."""
        try:
            answer = await turn.request("GET", path, operation="list_fields", accept=_NOT_HERE)
        except Rejected as error:
            raise _NoWayError(str(error)) from None
        if answer.status in _NOT_HERE:
            return None
        try:
            return {field.name.strip() for field in decode_page(answer.body, AccountField).items}
        except ValueError:
            raise _NoWayError(f"{path} answers something else than a list of fields") from None

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
