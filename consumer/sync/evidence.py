"""Whose fault a failure is, by evidence: one rule for every call and every kind of failure (`docs/contract.md`).

A failure counts against a user only if the same call succeeded for another user, or for a control user, after the
failing request was sent. While several users fail in a call and nothing speaks against them, the call is down: users
who need it wait without attempts, and single ones are tried (`trials.py`). No I/O here.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from consumer.clock import Clock
from consumer.ops.metrics import Metrics
from consumer.sync.calls import CONTROL, Call, CallState, Failure

_log = structlog.get_logger("evidence")

SYNC: Final[Call] = ("service", "sync")
"""This program itself: it fails when a sync ends with an internal error, and succeeds when a sync ends well."""

TOKEN: Final[Call] = ("sesamy", "get_token")

FIELDS: Final[tuple[Call, ...]] = (
    ("mailmojo", "list_fields"),
    ("mailmojo", "create_field"),
    ("mailmojo", "get_description"),
    ("mailmojo", "get_list"),
)

_OF_NO_USER: Final = frozenset({TOKEN, *FIELDS})
"""Calls that carry no user: what fails there cannot be a user's fault."""

_OF_EVERYBODY: Final[tuple[Call, ...]] = (SYNC, TOKEN, ("sesamy", "get_user"), ("mailmojo", "get_contact"))

_SEVERAL_OTHERS: Final = 2
"""Other users that fail with nothing that speaks against them: then nobody is blamed just now."""


class Fault(Enum):
    """Whose fault a failure is."""

    USER = "user"
    """The user's: the same call succeeds for others. It counts as an attempt."""
    UNKNOWN = "unknown"
    """Nothing speaks for or against the user, and nobody else is affected: it is tried again after a while."""
    CALL = "call"
    """The call's, which is down; the user waits for its end."""


class CallDown(Exception):
    """A request was not sent since its call is down. Nothing is wrong with the user."""

    def __init__(self, call: Call) -> None:
        self.call = call
        super().__init__(" ".join(call))


class Outage(Struct, frozen=True):
    """A call that is down, for `/readyz`. `since` is ISO 8601, `reason` one line without personal data."""

    api: str
    operation: str
    status: int | None
    since: str
    reason: str


class Evidence:
    """What is known of all calls."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        clock: Clock,
        wall_clock: Clock = time.time,
        released: Callable[[Iterable[str]], None] = lambda _users: None,
        frozen_since: Callable[[float], bool] = lambda _began: False,
    ) -> None:
        """Start without knowledge.

        `clock` and `wall_clock` (unix seconds) tell the time. `released` is told of users to sync at once.
        `frozen_since` tells whether this process stood still at some time since then; such failures are ignored.
        """
        self.clock = clock
        self._wall_clock = wall_clock
        self._released = released
        self._frozen_since = frozen_since
        self._states: dict[Call, CallState] = {}
        self._gauges = {api: metrics.circuit_open.labels(api) for api in ("sesamy", "mailmojo")}
        for gauge in self._gauges.values():
            gauge.set(0)

    def state(self, call: Call) -> CallState:
        """Return what is known of a call."""
        found = self._states.get(call)
        if found is None:
            found = self._states[call] = CallState(call)
        return found

    @property
    def stopped(self) -> bool:
        """Whether a call is down that nearly every sync needs, so that there is no use in reading more events.

        Not when all users who were read have failed in it: only one who comes after them can show that it works.
        """
        return any(self.is_down(call) and self._states[call].has_trials for call in _OF_EVERYBODY)

    def down(self) -> list[CallState]:
        """Return the calls that are down."""
        return [state for state in self._states.values() if state.is_down]

    def is_down(self, call: Call) -> bool:
        """Return whether a call is down."""
        state = self._states.get(call)
        return state is not None and self._look(state)

    def outages(self) -> list[Outage]:
        """Return the calls that are down, with status, time and reason."""
        return [_outage(state) for state in self._states.values() if self._look(state)]

    def reasons(self) -> dict[str, str]:
        """Return why users wait, by the API that they wait for; empty when no call is down."""
        told: dict[str, list[str]] = {}
        for outage in self.outages():
            told.setdefault(outage.api, []).append(outage.reason)
        return {api: "; ".join(reasons) for api, reasons in told.items()}

    def admit(self, user_id: str, call: Call, *, sends: bool = True) -> None:
        """Let the user make this call now, or raise `CallDown`.

        While it is down a request of one user at a time is let through as a trial: of a user who did not fail in it
        yet, unless a control user is read instead, or of the one whom `trials.py` chose.

        Args:
            user_id: the user.
            call: the call.
            sends: whether the request is sent now. Otherwise the question is whether it is worth while to begin.
        """
        state = self._states.get(call)
        if state is None or not self._look(state) or state.lets_pass(user_id):
            return
        may_try = state.trying == user_id or (state.is_new(user_id) and not state.has_control)
        if not may_try or state.sending not in {None, user_id}:
            raise CallDown(call)
        if sends:
            state.sending = user_id

    def succeeded(self, user_id: str, call: Call, body: bytes = b"") -> None:
        """Note that the call did what it was for; `body` is the response."""
        state = self._states.get(call) or self.state(call)
        users = state.succeeded(user_id, self.clock(), body)
        if state.sending == user_id:
            state.sending = None
        if state.is_down and not state.looks_down(self.clock):
            self._close(state)
        elif users:
            self._released(users)
        if state.since is not None and not state.is_down and state.is_calm:
            state.since = None

    def passed(self, call: Call) -> None:
        """Note that a call that carries no user did what it was for; it costs nothing where it always does."""
        state = self._states.get(call)
        if state is not None and (state.is_down or not state.is_idle):
            self.succeeded(CONTROL, call)

    def is_refuted(self, user_id: str, call: Call, failure: Failure) -> bool:
        """Return whether the call succeeded for somebody else since that failure began."""
        return any(success.refutes(user_id, failure) for success in self.state(call).recent())

    def failed(self, user_id: str, call: Call, failure: Failure) -> Fault:
        """Note a failure of a user, or of the control user, and return what it means."""
        if self._frozen_since(failure.began):
            return Fault.UNKNOWN
        state = self.state(call)
        if state.sending == user_id:
            state.sending = None
        if call in _OF_NO_USER:
            failure = replace(failure, about_user=False, about_account=True)
        refuted = state.failed(user_id, failure)
        if state.since is None:
            state.since = self._wall_clock()
        if self._look(state):
            return Fault.CALL
        if not refuted:
            return Fault.UNKNOWN
        suspicious = state.others(user_id) >= _SEVERAL_OTHERS
        if suspicious or failure.refusal:
            state.keep(user_id, failure)  # a refusal is final only when it comes again
        return Fault.USER if failure.about_user and not suspicious else Fault.UNKNOWN

    def throttled(self, user_id: str, call: Call, failure: Failure) -> Fault:
        """Note that the API asked to wait, which it may: who has waited and is asked again tells of the call."""
        again = self.state(call).is_told_to_wait_again(user_id)
        return self.failed(user_id, call, failure) if again else Fault.UNKNOWN

    def park(self, user_id: str, call: Call) -> bool:
        """Have the user wait for the call, and return whether it has to: the call may be back by now."""
        state = self.state(call)
        if state.is_down:
            state.parked[user_id] = None
        return state.is_down

    def completed(self, user_id: str) -> None:
        """Note that a sync ended well, whatever failed before."""
        self.succeeded(user_id, SYNC)
        self.forget(user_id)

    def ended(self, user_id: str) -> None:
        """Note that a sync ended, however: it is no trial any more."""
        for state in self.down():
            if state.sending == user_id:
                state.sending = None
            if state.trying == user_id:
                state.trying = None

    def forget(self, user_id: str) -> None:
        """Forget a user with whom this process is done."""
        for state in self._states.values():
            if state.is_idle and not state.is_down:
                continue
            state.forget(user_id)
            if state.is_down and not state.has_control and (state.is_idle or not state.looks_down(self.clock)):
                self._close(state)  # nobody is left who could tell that it is back

    def forget_all(self) -> None:
        """Forget all users: they belong to another instance now, or come again."""
        for state in self._states.values():
            state.forget_all()
        self._show()

    def _look(self, state: CallState) -> bool:
        """Return whether the call is down, having looked whether it is by now."""
        if not state.is_down and state.looks_down(self.clock):
            state.is_down = True
            outage = _outage(state)
            _log.error(
                "circuit.opened", api=outage.api, operation=outage.operation, status=outage.status, reason=outage.reason
            )
            self._show()
        return state.is_down

    def _close(self, state: CallState) -> None:
        api, operation = state.call
        waited = state.close()
        _log.info("circuit.closed", api=api, operation=operation, users=len(waited))
        self._show()
        self._released([*waited, *state.refused])

    def _show(self) -> None:
        down = {state.call[0] for state in self.down()}
        for api, gauge in self._gauges.items():
            gauge.set(api in down)


def _outage(state: CallState) -> Outage:
    api, operation = state.call
    failure = state.latest
    since = datetime.fromtimestamp(state.since or 0, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text, advice = (failure.text, failure.remedy) if failure else (" ".join(state.call), "")
    reason = f"{text}; down since {since}" + (f"; {advice}" if advice else "")
    return Outage(api, operation, failure.status if failure else None, since, reason)
