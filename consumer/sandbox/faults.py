"""What goes wrong, and when: latency, quotas and rules, changeable while the fakes serve."""

import random
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct

ApiName = Literal["sesamy", "token", "mailmojo"]
"""Sesamy's Management API, its token endpoint, and Mailmojo's API."""


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests a second and how many may come at once; a token bucket that starts full."""

    rate: float
    burst: float


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: which requests it meets, when, how often, and what it does to them."""

    api: ApiName | None = None
    operation: str | None = None
    """As the request log names it, such as `patch_contact`; None is every one."""
    key: str | None = None
    """A user id or an address (in lower case); None is every one."""
    method: str | None = None
    """Such as `GET`; None is every one."""
    rate: float = 1.0
    """The share of requests that it meets, drawn from the seed."""
    times: int | None = None
    """How many requests at most."""
    start: float = 0.0
    """Seconds after the rule was set."""
    lasts: float | None = None
    """Seconds; None is until it is removed."""
    delay: float = 0.0
    """Seconds added to the answer."""
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    """Answered instead of the right answer: an error in the API's own shape, below 400 an empty body."""
    body: str | None = None
    """Answered instead of the right body, as it is; the status is 200 unless `status` says otherwise."""
    content_type: str = "application/json"
    """Of `body`."""
    headers: dict[str, str] = {}
    """Headers of the answer; without a status, a body or a cut they are added to the right answer."""
    cut: bool = False
    """Close the connection instead of answering."""
    stage: Literal["before", "after"] = "before"
    """Whether `status`, `body` and `cut` come before the request took effect or after."""

    @property
    def replaces(self) -> bool:
        """Whether the right answer is replaced by another one, or by none."""
        return self.cut or self.status is not None or self.body is not None


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All faults at one time. Durations are seconds; an API without a quota takes everything."""

    latency: float = 0.0
    """Of every answer, half of it before the request takes effect."""
    jitter: float = 0.0
    """Up to so much more, drawn from the seed."""
    sesamy_quota: Quota | None = None
    mailmojo_quota: Quota | None = None
    token_lifetime: float = 86_400.0
    rules: tuple[Rule, ...] = ()


class Fate(Struct, frozen=True):
    """What happens to one request."""

    delay: float = 0.0
    rule: Rule | None = None
    """The rule that replaces the answer."""
    headers: dict[str, str] = {}
    """Headers to add to the answer."""


class Allowance(Struct, frozen=True):
    """What a quota says to one request: `wait` seconds (0: let through), how many are left, of how many."""

    wait: float
    remaining: int
    limit: int
    until_full: float


class _Bucket:
    def __init__(self, quota: Quota, now: float) -> None:
        self._quota, self._level, self._at = quota, quota.burst, now

    def take(self, now: float) -> Allowance:
        rate, burst = self._quota.rate, self._quota.burst
        self._level = min(burst, self._level + (now - self._at) * rate)
        self._at = now
        # A whole request less a rounding error: refilling in many small steps must not lose one.
        wait = 0.0 if self._level >= 1 - 1e-9 else (1 - self._level) / rate
        if not wait:
            self._level -= 1
        return Allowance(wait, int(max(self._level, 0)), int(burst), (burst - self._level) / rate)


class _Armed:
    def __init__(self, rule: Rule, now: float) -> None:
        self.rule, self._at, self._met = rule, now + rule.start, 0

    def meets(
        self, api: ApiName, operation: str, keys: tuple[str, ...], method: str, *, now: float, dice: random.Random
    ) -> bool:
        rule = self.rule
        if rule.api not in {None, api} or rule.operation not in {None, operation} or rule.method not in {None, method}:
            return False
        if rule.key is not None and rule.key not in keys:
            return False
        if now < self._at or (rule.lasts is not None and now >= self._at + rule.lasts):
            return False
        if rule.times is not None and self._met >= rule.times:
            return False
        if rule.rate < 1 and dice.random() >= rule.rate:
            return False
        self._met += 1
        return True


class Faults:
    """The faults in force: `set` replaces all, `add` adds one rule, `clear` ends them, each at once."""

    def __init__(self, plan: Plan | None = None, *, seed: int = 1, clock: Callable[[], float]) -> None:
        """Begin with `plan`."""
        self._clock = clock
        self._dice = random.Random(seed)  # noqa: S311 - replayable faults, not secrets
        self.set(plan or Plan())

    def set(self, plan: Plan) -> None:
        """Replace every fault. Quotas start full, windows and counts start now."""
        self.plan = plan
        now = self._clock()
        quotas: dict[ApiName, Quota | None] = {"sesamy": plan.sesamy_quota, "mailmojo": plan.mailmojo_quota}
        self._buckets = {api: _Bucket(quota, now) for api, quota in quotas.items() if quota}
        self._armed = [_Armed(rule, now) for rule in plan.rules]

    def add(self, rule: Rule) -> None:
        """Add one rule; its window starts now. Of several that meet a request the first decides, delays add up."""
        self._armed.append(_Armed(rule, self._clock()))

    def clear(self) -> None:
        """End every fault."""
        self.set(Plan())

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, those that `add` brought included."""
        return tuple(armed.rule for armed in self._armed)

    def fate(self, api: ApiName, operation: str, keys: tuple[str, ...], method: str) -> Fate:
        """Return what happens to this request."""
        plan = self.plan
        delay = plan.latency + (self._dice.random() * plan.jitter if plan.jitter else 0.0)
        decisive: Rule | None = None
        headers: dict[str, str] = {}
        if self._armed:
            now = self._clock()
            for armed in self._armed:
                rule = armed.rule
                if rule.replaces and decisive is not None:
                    continue
                if armed.meets(api, operation, keys, method, now=now, dice=self._dice):
                    delay += rule.delay
                    headers |= rule.headers
                    decisive = rule if rule.replaces else decisive
        return Fate(delay, decisive, headers)

    def take(self, api: ApiName) -> Allowance | None:
        """Take one request from the API's quota, if it has one."""
        bucket = self._buckets.get(api)
        return bucket.take(self._clock()) if bucket else None
