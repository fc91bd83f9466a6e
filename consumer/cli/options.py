"""Values of options that several commands take. What is wrong with one is said in one line, with exit code 2."""

import argparse
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def instant(text: str) -> int:
    """Return milliseconds since 1970 of an ISO 8601 time (UTC unless it says otherwise) or of a time ago (`2h`)."""
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return int((time.time() - int(ago[1]) * _UNITS[ago[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2025-11-10T12:00:00Z (UTC unless it says otherwise), 2025-11-10, or 2h (ago)"
        ) from None


def shown_instant(milliseconds: int) -> str:
    """Return the instant in ISO 8601, as `instant` reads it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` on, or to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,15}", text) or int(text) < least or (most is not None and int(text) > most):
            end = "on" if most is None else f"to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} {end}")
        return int(text)

    return parse


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def between(least: float, most: float) -> Callable[[str], float]:
    """Return a parser of numbers from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least:g} to {most:g}")
        return number

    return parse


def partitions(text: str) -> frozenset[int]:
    """Return partitions, given as in `0,2-4`."""
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} are no partitions such as 0 or 0,2-4")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no partition")
    return frozenset(found)
