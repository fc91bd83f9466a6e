"""Whose contacts are looked at, and when a contact's user is gone or has another address."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from consumer.clients.sesamy import ListedUser
from consumer.mapping import person
from consumer.mapping.fields import USER_ID
from schemas.sesamy import Profile
from schemas.verbatim import value_of

_SAMPLES: Final = 3

Standing = Literal["fine", "gone", "moved"]


class Suspect(Struct, frozen=True):
    """A contact of ours that does not fit Sesamy's list of users: whose it is, and its address in lower case."""

    address: str
    user_id: str


class KnownUsers:
    """Who has which address, remembered as one number a user: 86 to 96 bytes of memory, as measured.

    Two users can in theory look the same, and a contact be taken for fine that is not: once in ten million
    runs over a million users and a million contacts that are wrong.
    """

    def __init__(self) -> None:
        self._pairs: set[int] = set()
        self.count = 0
        self.samples: list[str] = []
        """Some ids that Sesamy lists, to see whether it knows them when asked for one by one."""

    def add(self, user: ListedUser) -> None:
        """Remember a listed user. One whose profile cannot be read has no known address, and is asked for alone."""
        self.count += 1
        if user.user_id is None or user.profile is None:
            return
        if len(self.samples) < _SAMPLES and is_askable(user.user_id):
            self.samples.append(user.user_id)
        if (address := person.address(user.profile)) is not None:
            self._pairs.add(hash((user.user_id, address)))

    def has(self, user_id: str, address: str) -> bool:
        """Tell whether the user is listed with this address."""
        return hash((user_id, address)) in self._pairs


def owner(custom: Mapping[str, Any] | None) -> str | None:
    """Return the id of the user whose contact it is; None when it is not ours.

    Ours is a contact whose Sesamy User ID can be asked for; a number is taken for the text of its digits. Whitespace
    that somebody added around it changes nothing.
    """
    value = value_of((custom or {}).get(USER_ID))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    user_id = value.strip() if isinstance(value, str) else ""
    return user_id if is_askable(user_id) else None


def is_askable(user_id: str) -> bool:
    """Tell whether the id can stand in a path: `..` would ask for something else."""
    return user_id not in {"", ".", ".."}


def standing(profile: Profile | None, address: str) -> Standing:
    """Judge a contact by what Sesamy says of its user now (None: it does not know the user).

    No address is another address. Whether the user counts as a guest by now does not matter: who has the contact's
    address is the one whom the contact shows.
    """
    if profile is None:
        return "gone"
    return "fine" if person.address(profile) == address else "moved"
