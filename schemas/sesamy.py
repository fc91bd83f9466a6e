"""Sesamy's Management API: the answers that a sync reads.

Everything but the ids is optional, `null` means absent, and enum values stay strings: the API's documentation
contradicts itself in places, and a field we do not use must never fail a sync. Instants stay strings here; the
rules in `consumer.mapping` parse those they need. Decode with the functions at the end: they make `""` absent, too.
"""

from typing import Any

import msgspec
from msgspec import Struct

from schemas.decoding import Page, decode, decode_page

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

    user_id: str | None = None
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


class Contract(Struct, frozen=True, kw_only=True, rename="camel"):
    """A contract, as `GET /management/contracts` lists them."""

    id: Identifier
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
    sku: Identifier | None = None
    purchase_option: Identifier | None = None
    title: str | None = None
    type: str | None = None
    origin: Origin | None = None
    has_access: bool | None = None


class Transaction(Struct, frozen=True, kw_only=True, rename="camel"):
    """A payment or a refund, as `GET /management/transactions` lists them."""

    id: Identifier
    is_refund: bool | None = None
    created_at: str | None = None


class Token(Struct, frozen=True):
    """The answer of the token endpoint. `expires_in` is in seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme, not a secret
    expires_in: float = 86400


def decode_profile(body: bytes) -> Profile:
    """Decode a user. Raises `msgspec.DecodeError`, or `msgspec.ValidationError` when it is no user.

    One of `userId` and `id` is required (either name, assumption): an answer without is something else, and must not
    pass for a user without an e-mail address.
    """
    profile = decode(body, Profile)
    if profile.user_id is None and profile.id is None:
        raise msgspec.ValidationError("Object missing required field `userId`")
    return profile
