"""The few invented users whose contacts the demo shows before and after; each stands for one rule."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from msgspec import Struct

from consumer.sandbox import World

MANUAL_TAGS: Final = ("VIP", "messe-2024")
FOREIGN_FIELD: Final = "Shoe size"


class Role(Struct, frozen=True, kw_only=True):
    """One user of the cast: what it shows, what each side knows of it, and what it lives through."""

    name: str
    shows: str
    user: dict[str, Any]
    contact: dict[str, Any] | None = None
    """What Mailmojo knew before; None: nothing."""
    later: dict[str, Any] | None = None
    """A change at Sesamy in the middle of the demo (arguments of `World.change`)."""
    refused: bool = False
    """Whether Mailmojo refuses every write."""
    user_id_prefix: str = "email|"

    @property
    def address(self) -> str:
        """The e-mail address."""
        return f"{self.name}@example.no"

    @property
    def user_id(self) -> str:
        """The id, in one of Sesamy's shapes."""
        return self.user_id_prefix + blake2b(self.name.encode(), digest_size=12).hexdigest()

    def enter(self, world: World) -> None:
        """Make both sides know what they know at the start."""
        profile = {"email": self.address} | self.user.get("profile", {})
        world.add_user(self.user_id, **self.user | {"profile": profile})
        if self.contact is not None:
            world.add_contact(self.address, **self.contact)

    def change(self, world: World) -> None:
        """Make what happens later happen at Sesamy."""
        if self.later is not None:
            world.change(self.user_id, **self.later)


def cast() -> tuple[Role, ...]:
    """Return everybody, with dates around today."""
    today = datetime.now(UTC)

    def at(days: int) -> str:
        return (today + timedelta(days=days)).strftime("%Y-%m-%dT10:00:00Z")

    subscription = _subscription(at)
    ending = subscription["contracts"][0] | {"willCancelAt": at(20), "cancelRequestedAt": at(-2), "nextBillAt": None}
    return (
        Role(
            name="new-reader",
            shows="unknown to Mailmojo: created on the list",
            user={
                "profile": {"firstName": "Nye", "lastName": "Lesar", "mobilePhone": "+47 400 00 001"},
                **subscription,
            },
        ),
        Role(
            name="manual-tags",
            shows="manual tags and a foreign field stay; a stale sesamy_ tag goes",
            user={"contracts": [subscription["contracts"][0] | _ended(at)]},
            contact={"tags": [*MANUAL_TAGS, "sesamy_active_subscriber"], "custom": {FOREIGN_FIELD: 44}},
        ),
        Role(
            name="filled-name",
            shows="a filled name stays, what is empty is filled",
            user={
                "profile": {"firstName": "Karl", "lastName": "Berg", "mobilePhone": "+47 400 00 003"},
                **subscription,
            },
            contact={"first_name": "Kalle"},
        ),
        Role(
            name="unsubscribed",
            shows="has left the list: kept up to date, never subscribed again",
            user=subscription,
            contact={"status": "u", "tags": ["VIP"]},
        ),
        Role(
            name="undone-cancellation",
            shows="Will Cancel At was set; undone in mid-demo, so it is cleared",
            user=subscription | {"contracts": [ending]},
            contact={"tags": ["sesamy_active_subscriber"], "custom": {"Will Cancel At": at(20)[:10]}},
            later={"contracts": subscription["contracts"]},
        ),
        Role(
            name="guest",
            shows="a guest account of the checkout: never a contact",
            user={},
            user_id_prefix="guest|",
        ),
        Role(
            name="refused",
            shows="Mailmojo refuses it: no contact, a dead letter",
            user=subscription,
            refused=True,
        ),
    )


def _subscription(at: Callable[[int], str]) -> dict[str, Any]:
    contract = {
        "id": "contract_demo",
        "status": "ACTIVE",
        "isActive": True,
        "contractDuration": "RECURRING",
        "recurringInterval": "MONTHLY",
        "nextBillAt": at(12),
        "createdAt": at(-80),
    }
    entitlement = {
        "id": "entitlement_demo",
        "sku": "avisa",
        "title": "Avisa",
        "type": "pass",
        "origin": {"type": "PAYMENTS", "contractId": "contract_demo"},
        "hasAccess": True,
    }
    payment = {"id": "transaction_demo", "contractId": "contract_demo", "amount": 9900, "createdAt": at(-18)}
    return {"contracts": [contract], "entitlements": [entitlement], "transactions": [payment]}


def _ended(at: Callable[[int], str]) -> dict[str, Any]:
    return {"status": "EXPIRED", "isActive": False, "nextBillAt": None, "expiresAt": at(-3)}
