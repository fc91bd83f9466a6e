"""From the text of a setting to its value. A ValueError says what the text must be, as in "must be a number"."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

Parser = Callable[[str], object]


def text(value: str) -> str:
    """Return any text but one of several lines."""
    if not value.isprintable():
        raise ValueError("must be one line of printable characters")
    return value


def matching(pattern: str, meaning: str) -> Parser:
    """Return a parser of texts that match the whole pattern."""

    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {meaning}")
        return value

    return parse


def one_of(*choices: str) -> Parser:
    """Return a parser of one of the choices, in any case, to the choice as it is spelled here."""
    spelled = {choice.lower(): choice for choice in choices}

    def parse(value: str) -> str:
        if value.lower() not in spelled:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return spelled[value.lower()]

    return parse


def whole(least: int, most: int) -> Parser:
    """Return a parser of whole numbers in a range, bounds included."""

    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return number

    return parse


def number(least: float, most: float) -> Parser:
    """Return a parser of numbers in a range, bounds included."""

    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            parsed = math.nan
        if not least <= parsed <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return parsed

    return parse


def flag(value: str) -> bool:
    """Return the truth of `true` and `false`, and of the spellings other tools take."""
    lowered = value.lower()
    if lowered in {"true", "1", "yes", "on"}:
        return True
    if lowered in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def words(value: str) -> tuple[str, ...]:
    """Return the comma-separated parts that are not blank."""
    return tuple(stripped for part in value.split(",") if (stripped := part.strip()))


def hosts(value: str) -> tuple[str, ...]:
    """Return comma-separated host names; one that begins with a dot, or with `*.`, stands for all names below it."""
    found = words(value)
    if not all(re.fullmatch(r"(\*?\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", host) for host in found):
        raise ValueError("must be host names without port, or several separated by commas")
    return found


def json_pointer(value: str) -> str:
    """Return a JSON pointer (RFC 6901) to something inside a document."""
    if not re.fullmatch(r"(/([^~/]|~[01])*)+", value):
        raise ValueError("must be a JSON pointer such as /data")
    return value


def time_zone(value: str) -> ZoneInfo:
    """Return the zone of an IANA name."""
    try:
        return ZoneInfo(value)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("must be a time zone such as Europe/Oslo or UTC") from error


def existing_file(value: str) -> Path:
    """Return the path of a file that is there."""
    path = Path(value)
    if not path.is_file():
        raise ValueError("must be the path of a file that exists")
    return path
