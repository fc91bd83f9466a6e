"""Who the user is: guest or not, the address, the names and the phone (`docs/reference/sesamy.md`)."""

from collections.abc import Iterable
from unicodedata import normalize

from schemas.coercion import as_truth
from schemas.sesamy import Profile

_NO_MARKS = (None, None, None)


def is_guest(user_id: str, profile: Profile, guest_prefixes: Iterable[str]) -> bool:
    """Tell a temporary account of a checkout from a user.

    How a guest is marked is unknown. Assumed: the profile says so, or the user id starts with one of the prefixes.
    """
    marks = (profile.is_guest, profile.guest, profile.temporary)
    marked = marks != _NO_MARKS and any(map(as_truth, marks))
    return marked or is_guest_id(user_id, guest_prefixes)


def is_guest_id(user_id: str, guest_prefixes: Iterable[str]) -> bool:
    """Tell a guest whom the id alone gives away."""
    return user_id.startswith(tuple(filter(None, guest_prefixes)))


def address(profile: Profile) -> str | None:
    """Return the e-mail address as `normalised`, None when there is none."""
    return normalised(profile.email or "") or None


def normalised(email: str) -> str:
    """Return an address trimmed and in lower case (`docs/reference/mailmojo.md`: a contact's case-insensitive key)."""
    return email.strip().lower()


def same_address(one: str, other: str) -> bool:
    """Tell whether two addresses are the same contact's, whichever way the domain is written (`é.no`, `xn--9ca.no`)."""
    one, other = normalised(one), normalised(other)
    return one == other or _in_ascii(one) == _in_ascii(other)


def first_name(profile: Profile) -> str | None:
    """Return the first name, None when there is none."""
    return _first(profile.first_name, profile.given_name)


def last_name(profile: Profile) -> str | None:
    """Return the last name, None when there is none."""
    return _first(profile.last_name, profile.family_name)


def phone(profile: Profile) -> str | None:
    """Return the phone number: mobile, default, work, home, the first that is not blank.

    `phone_number` is the default one, and `phone` the same (assumption).
    """
    return _first(profile.mobile_phone, profile.phone_number, profile.phone, profile.work_phone, profile.home_phone)


def _in_ascii(email: str) -> str:
    local, at, domain = normalize("NFC", email).rpartition("@")
    try:
        return local + at + domain.encode("idna").decode()
    except UnicodeError:
        return email


def _first(*candidates: str | None) -> str | None:
    for text in candidates:
        if text and (trimmed := text.strip()):
            return trimmed
    return None
