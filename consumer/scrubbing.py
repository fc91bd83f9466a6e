"""JSON of unknown shape without what may be personal: what an event is known to hold is told from everything else."""

import re
from collections.abc import Callable, Collection
from typing import Any, Final

IDS: Final = frozenset({"userId", "contractId", "entitlementId", "checkoutId"})
PLAIN: Final = {
    "eventType": re.compile(r"[\w.#-]{1,80}"),
    "vendorId": re.compile(r"[\w.-]{1,80}"),
    "occured_at": re.compile(r"[\dTZ:.+ -]{1,40}"),
    "occurred_at": re.compile(r"[\dTZ:.+ -]{1,40}"),
}
"""Keys of an event whose values say nothing of a person, as long as they look as they should."""

_NAME = re.compile(r"[A-Za-z_-]{1,40}")
"""A key that is a name, not an id used as one."""


def scrub(
    value: Any,
    identifier: Callable[[str], str],
    other: Callable[[str | float], Any],
    *,
    names: Collection[str] = (),
    key: str = "",
) -> Any:
    """Return the value with each id and each other text or number replaced; true, false and null stay.

    Args:
        value: decoded JSON.
        identifier: what to put for an id of the event.
        other: what to put for a text or a number of which nothing is known, keys that look like data included.
        names: keys that stay whatever they look like.
        key: the key that the value stands under.
    """
    match value:
        case dict():
            return {
                name if name in names or _NAME.fullmatch(name) else str(other(name)): scrub(
                    item, identifier, other, names=names, key=name
                )
                for name, item in value.items()
            }
        case list():
            return [scrub(item, identifier, other, names=names, key=key) for item in value]
        case None | bool():
            return value
        case str() if key in IDS:
            return identifier(value) if value else value
        case str() if key in PLAIN and PLAIN[key].fullmatch(value):
            return value
        case _:
            return other(value) if value != "" else value
