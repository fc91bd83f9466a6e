"""One sync's requests, told to the evidence: each is asked for when it is sent, and noted when it is answered."""

import errno
from contextlib import AbstractContextManager
from typing import Final, Protocol

from consumer.clients.errors import Api, ApiError, LocalFault, Rejected, Throttled, UnknownList, Unreachable
from consumer.clients.transport import Turn
from consumer.mapping.instants import UnreadableState
from consumer.sync.calls import Call, Failure
from consumer.sync.contents import field_of
from consumer.sync.controls import GET_CONTACT, GET_USER, Controls
from consumer.sync.evidence import SYNC, TOKEN, Evidence, Fault
from consumer.sync.flight import WriteAudit
from consumer.sync.remedies import remedy

_OWNERS: Final[dict[str, Call]] = {
    "profile": GET_USER,
    "contract": ("sesamy", "list_contracts"),
    "entitlement": ("sesamy", "list_entitlements"),
    "transaction": ("sesamy", "list_transactions"),
}
"""The call that answers each kind of object, as `UnreadableState` names them."""

_UNAUTHORIZED: Final = 401

_RESOURCES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENOSPC}
)
"""What only this machine can be out of."""


class Runner(Protocol):
    """What runs the sync; see `consumer.sync.flight.Flight`."""

    def reading(self) -> None:
        """Called right before the first read."""

    def sending(self, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        """Called at the moment of sending."""

    def wrote(self, audit: WriteAudit) -> None:
        """Called after each write that was accepted."""


class Attempt:
    """One sync under way. Implements `consumer.sync.flight.Flight` around what runs it."""

    def __init__(self, user_id: str, flight: Runner, evidence: Evidence, controls: Controls) -> None:
        self.user_id = user_id
        self._flight = flight
        self._evidence = evidence
        self._controls = controls
        self._started = evidence.clock()
        self._sent: dict[Call, float] = {}

    def needs(self, call: Call, /) -> None:
        """Raise `CallDown` when the call is down: waiting for it starts here."""
        self._evidence.admit(self.user_id, call, sends=False)

    def passed(self, call: Call, /) -> None:
        """Note that a call without a user did what it was for."""
        self._evidence.passed(call)

    def reading(self) -> None:
        """Pass on that the snapshot begins."""
        self._flight.reading()

    def sending(self, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        """Let the request be sent unless its call is down (`CallDown`) or the lease is lost."""
        call = (api, operation)
        self._evidence.admit(self.user_id, call)
        guarded = self._flight.sending(api, operation, writes=writes)
        if api == "sesamy":
            self._evidence.passed(TOKEN)
        self._sent[call] = self._evidence.clock()
        return guarded

    def answered(self, api: Api, operation: str, body: bytes, /) -> None:
        """Note that the call did what it was for."""
        self._evidence.succeeded(self.user_id, (api, operation), body)

    def wrote(self, audit: WriteAudit) -> None:
        """Pass the audit on."""
        self._flight.wrote(audit)

    async def compare(self, turn: Turn, error: Exception) -> None:
        """Make the call that failed for a control user, in the same turn, unless it is known already what that says."""
        call = call_of(error)
        if never_counts(error) or self._evidence.is_down(call) or _is_not_found(error):
            return
        if not self._evidence.is_refuted(self.user_id, call, self._failure(error)):
            await self._controls.read(call, turn, but=self.user_id)

    def completed(self) -> None:
        """Note that the sync ended well."""
        self._evidence.completed(self.user_id)

    def failed(self, error: Exception) -> Fault:
        """Note why the sync failed, and return what that means for the user."""
        if isinstance(error, Throttled):
            return self._evidence.throttled(self.user_id, call_of(error), self._failure(error))
        if never_counts(error):
            return Fault.UNKNOWN
        return self._evidence.failed(self.user_id, call_of(error), self._failure(error))

    def close(self) -> None:
        """Note that the sync ended, however it did."""
        self._evidence.ended(self.user_id)

    def _failure(self, error: Exception) -> Failure:
        return failure_of(error, self._sent.get(call_of(error), self._started))


def call_of(error: Exception) -> Call:
    """Return the call that failed with this error."""
    if isinstance(error, ApiError):
        return error.api, error.operation
    if isinstance(error, UnreadableState):
        return _OWNERS.get(_field(error).partition(".")[0], ("sesamy", "list_contracts"))
    return SYNC


def _is_not_found(error: Exception) -> bool:
    """Tell whether a control was looked for already (`Controls.profile`, `Controls.contact`)."""
    return isinstance(error, ApiError) and call_of(error) in {GET_USER, GET_CONTACT} and error.status == 404


def _field(error: UnreadableState) -> str:
    """Return the field that the error's text begins with, such as `contract.expiresAt`."""
    return str(error).partition(" ")[0]


def failure_of(error: Exception, began: float) -> Failure:
    """Return what the evidence needs to know of an error."""
    if isinstance(error, UnreadableState):
        text = f"{' '.join(call_of(error))}: HTTP 200: {error}"
        return Failure(began=began, status=200, text=text, content=_field(error))
    if not isinstance(error, ApiError):
        return Failure(began=began, status=None, text=f"an internal error: {type(error).__name__}")
    # Neither a value that cannot be read nor a contact that is not found is refuted by others without.
    is_content = (error.status is not None and error.status < 300) or _is_not_found(error)
    return Failure(
        began=began,
        status=error.status,
        text=str(error),
        remedy=remedy(error),
        content=field_of(error.detail) if is_content else None,
        refusal=is_refusal(error),
        about_user=not isinstance(error, Unreachable | Throttled),
        about_account=isinstance(error, UnknownList) or error.status == _UNAUTHORIZED,
    )


def is_refusal(error: Exception) -> bool:
    """Tell whether Mailmojo refuses this contact as it was sent. A 400 of Sesamy is a failure like others."""
    return isinstance(error, Rejected) and error.api == "mailmojo"


def never_counts(error: BaseException | None) -> bool:
    """Tell whether the error is a request to wait, or a fault of this process or its machine."""
    while error is not None:
        if isinstance(error, Throttled | LocalFault | MemoryError):
            return True
        if isinstance(error, OSError) and error.errno in _RESOURCES:
            return True
        error = error.__cause__ or error.__context__
    return False
