"""Sesamy's Management API: the answers that a sync reads.

Everything but the ids is optional, `null` means absent, and enum values stay strings: the API's documentation
contradicts itself in places, and a field we do not use must never fail a sync. Instants stay strings here; the
rules in `consumer.mapping` parse those they need. Decode with the functions at the end: they make `""` absent, too.
"""

from typing import Any

import msgspec
from msgspec import Struct

from schemas.decoding import Contradiction, Page, decode, decode_page, refuse_failure
from schemas.json_text import MARK

__all__ = [
    "Contract",
    "Entitlement",
    "Identifier",
    "Origin",
    "Page",
    "Profile",
    "Token",
    "Transaction",
    "decode_page",
    "decode_profile",
    "ids_of",
]

Identifier = str | int
"""An object's id. Documented as text; a number is taken as well, since nothing depends on it."""


class Profile(
    Struct,
    frozen=True,
    kw_only=True,
    rename={
        "user_id": "userId",
        "first_name": "firstName",
        "last_name": "lastName",
        "mobile_phone": "mobilePhone",
        "work_phone": "workPhone",
        "home_phone": "homePhone",
        "is_guest": "isGuest",
    },
):
    """A user, as `GET /management/users/{userId}` answers."""

    user_id: Identifier | None = None
    id: Identifier | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    mobile_phone: str | None = None
    phone_number: str | None = None
    phone: str | None = None
    work_phone: str | None = None
    home_phone: str | None = None
    tags: list[str] | None = None
    # How a guest is marked is unknown: these three names are assumed, so their types are not insisted on.
    is_guest: Any = None
    guest: Any = None
    temporary: Any = None

    def __post_init__(self) -> None:
        """Refuse an address of which a part is lost: what is left of it may be somebody else's."""
        if self.email is not None and MARK in self.email:
            raise ValueError("`email` holds half a character")


class Contract(Struct, frozen=True, kw_only=True, rename="camel"):
    """A contract, as `GET /management/contracts` lists them."""

    id: Identifier
    user_id: Identifier | None = None
    status: str | None = None
    is_active: bool | None = None
    contract_duration: str | None = None
    recurring_interval: Any = None
    issues_remaining: int | float | None = None
    next_bill_at: str | None = None
    expires_at: str | None = None
    will_cancel_at: str | None = None
    created_at: str | None = None
    # No documented field says that somebody else pays: these two names are assumed, their types not insisted on.
    payer_user_id: Any = None
    gifted_by: Any = None


class Origin(Struct, frozen=True):
    """Where an entitlement comes from: `EXTERNAL` or `PAYMENTS`."""

    type: str | None = None


class Entitlement(Struct, frozen=True, kw_only=True, rename="camel"):
    """An access, as `GET /management/entitlements` lists them."""

    id: Identifier
    user_id: Identifier | None = None
    sku: Identifier | None = None
    purchase_option: Identifier | None = None
    title: str | None = None
    type: str | None = None
    origin: Origin | None = None
    has_access: bool | None = None


class Transaction(Struct, frozen=True, kw_only=True, rename="camel"):
    """A payment or a refund, as `GET /management/transactions` lists them."""

    id: Identifier
    user_id: Identifier | None = None
    is_refund: bool | None = None
    created_at: str | None = None


class Token(Struct, frozen=True):
    """The answer of the token endpoint. `expires_in` is in seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme, not a secret
    expires_in: float = 86400


def decode_profile(body: bytes, user_id: str | None = None) -> Profile:
    """Decode a user, the one with `user_id` if that is given.

    One of `userId` and `id` is required (either name, assumption): an answer without is something else, and must not
    pass for a user without an e-mail address.

    Raises:
        msgspec.DecodeError: it is not JSON, or not a user (a `msgspec.ValidationError`).
        Contradiction: it is another user, or reports an error.
    """
    profile = decode(body, Profile)
    if profile.user_id is None and profile.id is None:
        raise msgspec.ValidationError("Object missing required field `userId`")
    if user_id is not None and user_id != profile.user_id and user_id not in ids_of(profile):
        raise Contradiction("a user with another id")
    refuse_failure(body)
    return profile


def ids_of(profile: Profile) -> set[str]:
    """Return the ids that a profile gives its user."""
    return {str(it) for it in (profile.user_id, profile.id) if it is not None}
