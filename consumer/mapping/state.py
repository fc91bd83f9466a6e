"""What a contact is derived from: a user's state, and the rules of this deployment."""

from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.sesamy import Contract, Entitlement, Profile, Transaction


class UserState(Struct, frozen=True, kw_only=True):
    """Everything that one sync read of a user. `user_id` is the event's, whatever the profile calls itself."""

    user_id: str
    profile: Profile
    contracts: tuple[Contract, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    transactions: tuple[Transaction, ...] = ()


class Rules(Struct, frozen=True, kw_only=True):
    """The settings that decide what is written. Dates are in `time_zone`; a field is cleared with `clear_value`."""

    time_zone: ZoneInfo
    list_id: str
    guest_prefixes: tuple[str, ...] = ("guest|", "anonymous|")
    clear_value: Literal[""] | None = None
