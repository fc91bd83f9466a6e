"""One record of the topic: a Sesamy event, or our own request to sync a user.

The payload is thin: it names a user and carries no state (`reference/sesamy.md`). Only the ids that decide what
happens are required; everything else is kept for the reader of a dead letter.
"""

from typing import Final

from msgspec import Struct

STANDARD_EVENT_TYPES: Final = (
    "userVendor.1#new",
    "userVendor.1#update",
    "contract.1#purchased",
    "contract.1#update",
    "contract#cancelRequest",
    "checkout.1#confirm",
    "entitlement.1#new",
    "entitlement.1#update",
)
"""The eight standard types, spelled exactly as Sesamy spells them (one has no `.1`)."""

SYNC_REQUEST: Final = "sesamy-mailmojo#sync"
"""The type of our own records: `sync` and `backfill` ask the running service through the topic."""


class Event(
    Struct,
    frozen=True,
    kw_only=True,
    rename={
        "event_type": "eventType",
        "vendor_id": "vendorId",
        "user_id": "userId",
        "contract_id": "contractId",
        "entitlement_id": "entitlementId",
        "checkout_id": "checkoutId",
    },
):
    """A record's value. `occured_at` (one r) is Sesamy's spelling; `occurred_at` is taken as well (assumption)."""

    event_type: str
    vendor_id: str
    user_id: str
    contract_id: str | None = None
    entitlement_id: str | None = None
    checkout_id: str | None = None
    occured_at: str | None = None
    occurred_at: str | None = None
