"""What is known of one call (an API and an operation): who failed in it, and what speaks against whom. No I/O.

A *voice* is a user whose failure nothing speaks against: it may be the call's fault. A user who failed while the call
succeeded for somebody else says nothing about the call any more.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from consumer.clients.errors import Api
from consumer.clock import Clock
from consumer.sync.contents import shows

Call: TypeAlias = tuple[Api | Literal["service"], str]
"""Such as `("mailmojo", "patch_contact")`; `("service", "sync")` stands for this program itself."""

CONTROL: Final = ""
"""The user id of the control user, whoever that is; no event has it."""

_SEVERAL: Final = 2
"""Users that failed with no success in between: that is not about the users."""

_QUIET: Final = 2.5
"""Seconds without a success until several failing users count as the call's failure. Without a control user nobody
can tell many failing users beside healthy ones from an outage any sooner."""

_LONG: Final = 10.0
"""Seconds after which a user who failed need not wait any longer when evidence comes."""

_REMEMBERED: Final = 4
"""Successes that are kept: more than one, since a user's own success does not speak against that user."""

_LARGEST_KEPT: Final = 64 * 1024
"""Bytes of a response that is kept, to be looked at when a value of another one could not be read."""


class Failure(Struct, frozen=True, kw_only=True):
    """One failure of one user in one call.

    Attributes:
        began: when the failing request was sent, on the clock of the evidence.
        status: the HTTP status; None without a response.
        text: one line without personal data.
        remedy: what to check; may be empty.
        content: None if any success refutes it; otherwise the content that a success must show (`contents.shows`).
        refusal: Mailmojo refuses this contact as it was sent.
        about_user: whether it can be the user's fault at all.
        about_account: whether it is most likely about credentials or settings: the second in a row says enough.
    """

    began: float
    status: int | None
    text: str
    remedy: str = ""
    content: str | None = None
    refusal: bool = False
    about_user: bool = True
    about_account: bool = False


class Success(Struct, frozen=True):
    """One success: when, of whom, and the response, where it is kept."""

    at: float
    user_id: str
    body: bytes

    def refutes(self, user_id: str, failure: Failure) -> bool:
        """Return whether this speaks against that user, and not against the call."""
        if self.user_id == user_id or self.at <= failure.began:
            return False
        return failure.content is None or shows(self.body, failure.content)


class CallState:
    """One call. Times are seconds on one clock; `since` is unix seconds."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.is_down = False
        self.since: float | None = None
        """When the first failure came that no success has refuted yet."""
        self.latest: Failure | None = None
        self.parked: dict[str, None] = {}
        """Users who wait for this call, first come, first served."""
        self.trying: str | None = None
        """The user who was chosen for the next trial."""
        self.sending: str | None = None
        """The user whose request is the trial that is under way."""
        self._open: dict[str, Failure] = {}
        """By user the last failure, while no success of another user refutes it."""
        self._refuted: dict[str, Failure] = {}
        """By user the last failure, once a success of another user refuted it, until it is counted."""
        self._mute: set[str] = set()
        """Users who failed while others succeeded, and did not succeed themselves since."""
        self._voices: dict[str, float] = {}
        """When each of them began to fail."""
        self._again = False
        """Whether it failed twice in a row for a reason that is about the account."""
        self._told_to_wait: set[str] = set()
        """Users whom the API asked to wait (429, 503 with Retry-After), with no success since."""
        self._successes: deque[Success] = deque(maxlen=_REMEMBERED)

    @property
    def has_control(self) -> bool:
        """Whether the control user failed as well: then its reads are the trials."""
        return CONTROL in self._voices

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for this call or failed in it."""
        return not (self.parked or self._open or self._refuted or self._mute or self._told_to_wait)

    @property
    def is_calm(self) -> bool:
        """Whether nobody failed with nothing that speaks against them."""
        return not self._voices

    @property
    def refused(self) -> list[str]:
        """Users whom Mailmojo refused while it accepted others: once more, and they are given up."""
        return [user_id for user_id, failure in self._refuted.items() if failure.refusal]

    def recent(self) -> Sequence[Success]:
        """Return the last successes, oldest first."""
        return self._successes

    def failed(self, user_id: str, failure: Failure) -> bool:
        """Note a failure, and return whether a success of another user refutes it, or the one before it."""
        self.latest = failure
        refuted_before = self._refuted.pop(user_id, None) is not None
        refuted = any(success.refutes(user_id, failure) for success in self._successes)
        if refuted or refuted_before:
            self._mute.add(user_id)
            self._voices.pop(user_id, None)
        self._again |= failure.about_account and bool(self._open) and not refuted
        if refuted:
            self._open.pop(user_id, None)
        else:
            self._open[user_id] = failure
            if user_id not in self._mute:
                self._voices.setdefault(user_id, failure.began)
        return refuted or refuted_before

    def is_told_to_wait_again(self, user_id: str) -> bool:
        """Note that the API asked to wait, and return whether it asked this user before, with no success since."""
        before = user_id in self._told_to_wait
        self._told_to_wait.add(user_id)
        return before

    def keep(self, user_id: str, failure: Failure) -> None:
        """Keep a refuted failure for later: it was not counted now."""
        self._open.pop(user_id, None)
        self._refuted[user_id] = failure

    def others(self, user_id: str) -> int:
        """Return how many other users failed in this call with nothing that speaks against them."""
        return len(self._voices) - (user_id in self._voices)

    def succeeded(self, user_id: str, now: float, body: bytes) -> Sequence[str]:
        """Note a success of a user; return those who need not wait any longer, since it speaks against them.

        Those are refused users, and those who waited for long: others keep the pauses between their attempts.
        """
        success = Success(now, user_id, body if len(body) <= _LARGEST_KEPT else b"")
        self._successes.append(success)
        self._told_to_wait.clear()
        if self.is_idle and not self.is_down:
            return ()
        self._again = False
        own = self._open.get(user_id)
        if own is None or own.content is None or shows(body, own.content):
            self._drop(user_id)
        refuted = [
            (other, failure)
            for other, failure in self._open.items()
            if Success(now, user_id, body).refutes(other, failure)
        ]
        for other, failure in refuted:
            del self._open[other]
            self._voices.pop(other, None)
            if other != CONTROL:
                self._refuted[other] = failure
                self._mute.add(other)
        return [other for other, failure in refuted if failure.refusal or now - failure.began > _LONG]

    def looks_down(self, clock: Clock) -> bool:
        """Return whether several users fail and nothing speaks against them."""
        if self._again or len(self._voices) < _SEVERAL:
            return self._again
        now = clock()
        if CONTROL in self._voices or now - self._last_success >= _QUIET:
            return True
        # Successes without such a value may go on for ever.
        return now - min(self._voices.values()) >= _QUIET and all(self._open[it].content for it in self._voices)

    def close(self) -> list[str]:
        """Begin anew after an outage, which explains every failure but refusals; return who waited for its end."""
        self.is_down = False
        self.since = self.trying = self.sending = None
        self._again = False
        waited = list(self.parked)
        self.parked.clear()
        self._open.clear()
        self._voices.clear()
        self._told_to_wait.clear()
        self._refuted = {user_id: failure for user_id, failure in self._refuted.items() if failure.refusal}
        self._mute.intersection_update(self._refuted)
        return waited

    def lets_pass(self, user_id: str) -> bool:
        """Return whether the user need not wait though the call is down: nothing but values of one field are at fault.

        Whoever has no such value is not concerned, and only a response tells.
        """
        return user_id not in self._open and all(failure.content for failure in self._open.values())

    def is_new(self, user_id: str) -> bool:
        """Return whether the user did not fail in this call."""
        return not (user_id in self._open or user_id in self._refuted or user_id in self._mute)

    @property
    def has_trials(self) -> bool:
        """Whether there is somebody to try it with who did not fail yet, or the control user."""
        return self.has_control or any(map(self.is_new, self.parked))

    def next_trial(self) -> str | None:
        """Take a user who waits, of those who did not fail yet the first; None when nobody waits."""
        chosen = next(filter(self.is_new, self.parked), None) or next(iter(self.parked), None)
        if chosen is not None:
            del self.parked[chosen]
        self.trying = chosen
        return chosen

    def forget(self, user_id: str) -> None:
        """Forget a user who is done with, or whom somebody else serves now."""
        self._drop(user_id)
        self.parked.pop(user_id, None)
        if self.sending == user_id:
            self.sending = None
        if self.trying == user_id:
            self.trying = None

    def forget_all(self) -> None:
        """Forget all users. What the call did for them is not known for those to come."""
        since = self.since
        self._refuted.clear()
        self._mute.clear()
        self.close()
        self.since = since

    @property
    def _last_success(self) -> float:
        return self._successes[-1].at if self._successes else -math.inf

    def _drop(self, user_id: str) -> None:
        self._open.pop(user_id, None)
        self._refuted.pop(user_id, None)
        self._mute.discard(user_id)
        self._voices.pop(user_id, None)
        self._told_to_wait.discard(user_id)
