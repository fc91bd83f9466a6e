"""The state in one sentence, for somebody who has read nothing: healthy or not, how far behind, what waits for what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

State = Literal["good", "busy", "waiting", "bad"]

_FRESH: Final = 15.0
"""Seconds since the oldest waiting event was read, within which nobody calls the service behind."""

_FEW: Final = 50
_NAMES: Final = {"sesamy": "Sesamy", "mailmojo": "Mailmojo", "kafka": "Kafka", "service": "a fix of this program"}


class Verdict(Struct, frozen=True):
    """What the page says first.

    Attributes:
        state: `good` up to date; `busy` behind and at work; `waiting` for something that takes seconds; `bad` somebody
            should look: nothing is done because of what is named, or a promise broke.
        headline: a few words.
        detail: one or two sentences: why, and what would help.
    """

    state: State
    headline: str
    detail: str


def judge(status: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a status (`Overview.status`)."""
    broken = [name.replace("_", " ") for name, count in status["sentinels"].items() if count]
    if broken:
        return Verdict(
            "bad",
            "A promise was broken",
            f"The program caught itself at: {', '.join(broken)}. That is a defect; the log has the place.",
        )
    reasons = status["reasons"]
    if reasons:
        return _held_up(reasons, status)
    if not status["partitions"]:
        return Verdict(
            "good", "Standing by", "Other instances own all partitions. This one takes over when one of them leaves."
        )
    behind, oldest = status["lag"], status["oldest_pending_seconds"]
    if behind > max(_FEW, 10 * status["done_per_second"]) or oldest > _FRESH:
        return Verdict(
            "busy", f"Catching up, {_counted(behind, 'event')} behind", f"{_time_left(status)}{_bottleneck(status)}"
        )
    if status["events_pending"]:
        return Verdict("good", "Up to date", f"At work on {_counted(status['events_pending'], 'event')} just read.")
    return Verdict("good", "Up to date", "Every event that was read is done. Nothing waits.")


def _held_up(reasons: Mapping[str, str], status: Mapping[str, Any]) -> Verdict:
    if "kafka" in reasons:
        return Verdict(
            "waiting",
            "Joining the consumer group",
            "No member of the group just now, so nothing is read. After a start or a rebalance that takes seconds; "
            "if it lasts, Kafka is out of reach.",
        )
    names: list[str] = []
    for name in reasons:
        calls = [_call(call) for call in status.get("calls", ()) if call["api"] == name]
        names += calls or [_NAMES.get(name, name)]
    return Verdict(
        "bad",
        f"Held up, waiting for {' and '.join(names)}",
        f"{' '.join(_sentence(text) for text in reasons.values())} {_counted(status['lag'], 'event')} behind; "
        "nothing is lost, work goes on by itself once this is over.",
    )


def _call(call: Mapping[str, Any]) -> str:
    """Return a call that is down, with its status and the time since when, as `10 Nov 12:00 UTC`."""
    since = datetime.fromisoformat(call["since"]).strftime("%d %b %H:%M UTC").lstrip("0")
    answer = f"HTTP {call['status']}" if call["status"] else "no answer"
    return f"{_NAMES.get(call['api'], call['api'])} {call['operation']} ({answer} since {since})"


def _bottleneck(status: Mapping[str, Any]) -> str:
    waits, apis = status["waits"], status["apis"]
    for api, queue in (("sesamy", waits["sesamy_quota"]), ("mailmojo", waits["mailmojo_quota"])):
        name = _NAMES[api]
        if apis[api]["closed_for_seconds"] > 1:
            return f"{name} asked for a pause of {apis[api]['closed_for_seconds']:.0f} s more."
        if queue and queue >= status["users_in_flight"] / 2:
            return (
                f"It waits for {name}'s quota, here {_rate(apis[api]['allowed_per_second'])}. "
                "More instances would not help, a higher quota would."
            )
    if waits["ready"] and status["users_in_flight"] >= status["concurrency"]:
        return f"All {status['concurrency']} places for users are taken; the APIs' answers set the pace."
    if waits["retrying"] and not waits["ready"]:
        return f"{_counted(waits['retrying'], 'user')} failed and will be tried again."
    if waits["malformed"]:
        return f"{_counted(waits['malformed'], 'malformed record')} on the way to the dead-letter topic."
    return "Work is under way."


def _time_left(status: Mapping[str, Any]) -> str:
    rate = status["done_per_second"]
    if rate <= 0:
        return ""
    seconds = status["lag"] / rate
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size or unit == "s":
            return f"About {max(1, round(seconds / size))} {unit} at this pace. "
    raise AssertionError


def _rate(per_second: float) -> str:
    if per_second < 10:
        return f"{per_second * 60:,.0f} requests a minute"
    return f"{per_second:,.0f} requests a second"


def _counted(count: float, thing: str) -> str:
    return f"{count:,.0f} {thing}" if count == 1 else f"{count:,.0f} {thing}s"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
