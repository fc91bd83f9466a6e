"""Whose fault a failure is: the event's, or that of credentials, a setting or an outage.

Only a fault of the event may end in the dead-letter topic. So a failing sync that no other user's success speaks
against is followed by a neutral call (`contract.md`, the topic): if that is answered, the failure is the user's own
and counts as an attempt; if not, the breaker opens and consumption waits, probing until the API answers again.
One poisoned user can therefore never keep a breaker open.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from consumer.clients.errors import Api, ApiError, Throttled, Unauthorized, UnknownList
from consumer.clock import Clock
from consumer.ops.metrics import Metrics

_log = structlog.get_logger("breaker")

_PROBE_BASE: Final = 0.5
_PROBE_CAP: Final = 5.0
"""Seconds between probes: an outage's end is noticed this soon, at next to no cost of quota."""

_PROBE_PATIENCE: Final = 5.0
"""Seconds for a probe while open: the end of a silence is noticed this soon, too, whatever a call's time-out is."""

_STREAK: Final = 10
"""Different users refused in a row, with no accepted write between: that is not about the users."""

_TRIAL_INTERVAL: Final = 5.0
"""Seconds between the single users that are let through while a streak holds consumption."""


class Breaker:
    """Open while one API is of no use to anybody."""

    def __init__(
        self,
        api: Api,
        probe: Callable[[], Awaitable[None]],
        *,
        metrics: Metrics,
        changed: Callable[[], None],
        rng: random.Random,
    ) -> None:
        """Watch an API; `probe` is a call that depends on no user, `changed` is called at every turn."""
        self.api = api
        self.reason: str | None = None
        self.successes = 0
        self._probe = probe
        self._gauge = metrics.circuit_open.labels(api)
        self._gauge.set(0)
        self._changed = changed
        self._rng = rng
        self._asking = asyncio.Lock()
        self._throttled_probes = 0
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether consumption waits for this API."""
        return self.reason is not None

    def succeeded(self) -> None:
        """Note that the API served a user."""
        self.successes += 1

    async def is_fault_of_user(self, error: ApiError, successes_before: int) -> bool:
        """Return whether the API serves others, so that the failure counts against this user.

        `successes_before` is what `successes` was when the failing sync began.
        """
        if isinstance(error, Throttled):
            return False
        throttled_before = self._throttled_probes
        async with self._asking:
            if self.successes > successes_before:
                return True
            if self.is_open or self._throttled_probes > throttled_before:
                return False
            try:
                await self._probe()
            except Throttled:
                self._throttled_probes += 1
                return False
            except ApiError as failure:
                self._open(failure)
                return False
            self.successes += 1
            return True

    async def run(self) -> None:
        """Probe while open, until cancelled."""
        while True:
            await self._opened.wait()
            pause = _PROBE_BASE
            while self.is_open:
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1))
                pause = min(_PROBE_CAP, 2 * pause)
                try:
                    async with asyncio.timeout(_PROBE_PATIENCE):
                        await self._probe()
                except TimeoutError:
                    pause = _PROBE_BASE  # it has waited long enough
                except Throttled:
                    continue
                except ApiError as failure:
                    self.reason = way_out(failure)
                else:
                    self._close()

    def _open(self, failure: ApiError) -> None:
        self.reason = way_out(failure)
        self._gauge.set(1)
        self._opened.set()
        self._changed()
        _log.error("circuit.opened", api=self.api, reason=self.reason)

    def _close(self) -> None:
        self.reason = None
        self.successes += 1
        self._gauge.set(0)
        self._opened.clear()
        self._changed()
        _log.info("circuit.closed", api=self.api)


class RejectionStreak:
    """Holds consumption after ten `rejected` in a row of different users with no accepted write between."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._users: set[str] = set()
        self._clock = clock
        self._changed = changed
        self._next_trial = 0.0
        self._error = ""

    @property
    def is_open(self) -> bool:
        """Whether consumption waits, but for one user at a time on trial."""
        return len(self._users) >= _STREAK

    @property
    def reason(self) -> str | None:
        """Why consumption waits, for `/readyz`."""
        if not self.is_open:
            return None
        return f"{_STREAK} users were refused in a row, so it is not about the users; the last: {self._error}"

    def accepted(self) -> None:
        """Note an accepted write: what is refused is refused for itself."""
        was_open = self.is_open
        self._users.clear()
        if was_open:
            _log.info("rejections.ended")
            self._changed()

    def rejected(self, user_id: str, error: Exception) -> bool:
        """Note a final refusal, and return whether it may be dead-lettered."""
        self._users.add(user_id)
        self._error = str(error)
        if self.is_open:
            _log.error("rejections.in_a_row", reason=self.reason)
            self._next_trial = self._clock() + _TRIAL_INTERVAL
            self._changed()
        return not self.is_open

    def admits(self) -> bool:
        """Return whether a sync may start; while open, once per trial interval."""
        if not self.is_open:
            return True
        if self._clock() < self._next_trial:
            return False
        self._next_trial = self._clock() + _TRIAL_INTERVAL
        return True

    def next_trial_in(self) -> float | None:
        """Return in how many seconds `admits` may say yes again, or None when it always does."""
        return max(0.0, self._next_trial - self._clock()) if self.is_open else None


class Gatekeeper:
    """Whether syncs may start, and if not, why: the breakers of both APIs and the streak of refusals."""

    def __init__(self, sesamy: Breaker, mailmojo: Breaker, rejections: RejectionStreak) -> None:
        self.breakers: dict[Api, Breaker] = {"sesamy": sesamy, "mailmojo": mailmojo}
        self.rejections = rejections

    def admits(self) -> bool:
        """Return whether one more sync may start now."""
        return not any(breaker.is_open for breaker in self.breakers.values()) and self.rejections.admits()

    @property
    def on_trial(self) -> bool:
        """Whether a sync that may start is a trial: best of a user who did not fail yet."""
        return self.rejections.is_open

    @property
    def stopped(self) -> bool:
        """Whether an API is of no use to anybody, so that no sync can end well."""
        return any(breaker.is_open for breaker in self.breakers.values())

    def wait(self) -> float | None:
        """Return in how many seconds to ask `admits` again though nothing changed; None when only a change helps."""
        return self.rejections.next_trial_in()

    def reasons(self) -> dict[str, str]:
        """Return why consumption waits, by what it waits for; empty when it does not."""
        held = {api: breaker.reason for api, breaker in self.breakers.items() if breaker.reason}
        return held | ({"rejections": self.rejections.reason} if self.rejections.reason else {})


def way_out(failure: ApiError) -> str:
    """Return one line that says what is wrong and, where a setting is, which."""
    if isinstance(failure, UnknownList):
        return f"{failure} - Mailmojo does not know the list; check MAILMOJO_LIST_ID"
    if isinstance(failure, Unauthorized):
        setting = "MAILMOJO_API_TOKEN" if failure.api == "mailmojo" else "SESAMY_CLIENT_ID and SESAMY_CLIENT_SECRET"
        return f"{failure} - the credentials are refused; check {setting}"
    return str(failure)
