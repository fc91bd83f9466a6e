"""Invented users and contacts of every kind, the same for the same seed, made when first read."""

import hashlib
import random
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.sandbox import subscriptions

if TYPE_CHECKING:
    from consumer.sandbox.contacts import Status

FOREIGN_FIELDS = {"Shoe size": "number", "Favoritt": "text", "Medlem siden": "date", "VIP": "boolean"}
"""Account fields that the customer made; no sync may touch their values."""

_FIRST = ("Kari", "Ola", "Åse", "Bjørn", "Ægir", "Sølvi", "Jörgen", "Anne-Lise", "Päivi", "D'Arcy")
_LAST = ("Nordmann", "Ødegård", "Sæther", "Åkesson", "Müller", "Høyem Lie", "O'Brien", "Żak")
_TAGS = ("VIP", "Nyhetsbrev Ære & Øl", "ÅRSMØTE 2025", "trial", "--")
_PREFIXES = ("email|", "auth2|", "auth0|", "email|", "google-oauth2|")
_BORN = date(2024, 1, 1)


USERS = (*subscriptions.KINDS, "guest_marked", "guest_prefixed", "no_email", "nothing")
"""The kinds of users. Seventeen, so that each meets each of eleven kinds of contacts and seven of addresses."""

ORDINARY = tuple(subscriptions.KINDS)
"""The kinds that a sync writes: no guest, nobody without an address."""

CONTACTS = (
    "none",
    "bare",
    "tagged",
    "foreign_fields",
    "named",
    "synced_before",
    "unsubscribed",
    "bounced",
    "deleted",
    "never_on_list",
    "other_list",
)
"""What Mailmojo knew of a user's address before."""


class Seed(NamedTuple):
    """One user's place in a population; everything else follows from it."""

    seed: int
    number: int
    kind: str
    contact: str
    given_id: str = ""
    """The user's id where it is not invented."""

    @property
    def user_id(self) -> str:
        """The user's id, in one of the documented shapes unless it was given."""
        if self.given_id:
            return self.given_id
        digest = hashlib.blake2b(b"%d:%d" % (self.seed, self.number), digest_size=12).hexdigest()
        if self.kind == "guest_prefixed":
            return f"{'guest' if self.number % 2 else 'anonymous'}|{digest}"
        prefix = _PREFIXES[self.number % len(_PREFIXES)]
        return prefix + (str(int(digest, 16))[:21] if prefix == "google-oauth2|" else digest)

    @property
    def address(self) -> str:
        """The e-mail address as the profile has it; empty for a user without."""
        if self.kind == "no_email":
            return ""
        n = f"{self.seed}.{self.number:06d}"
        return (
            f"kari.{n}@example.no",
            f"ola+news.{n}@example.com",
            f"Kari.Nordmann.{n}@Example.NO",
            f"bjørn.åse.{n}@example.no",
            f" trimmed.{n}@example.no ",
            f"o'brien_{n}@mail.example.no",
            f"a%b/c#{n}@example.org",
        )[self.number % 7]

    def _random(self) -> random.Random:
        return random.Random(self.seed << 32 | self.number)  # noqa: S311 - invented people, not secrets

    def grow(self) -> dict[str, Any]:
        """Return profile, contracts, entitlements and transactions."""
        dice = self._random()
        state = subscriptions.KINDS.get(self.kind, subscriptions.nothing)
        return {"profile": self._profile(dice)} | state(self.user_id, dice)

    def _profile(self, dice: random.Random) -> dict[str, Any]:
        born = f"{_BORN + timedelta(days=dice.randrange(600))}T{dice.randrange(24):02d}:15:00.000Z"
        profile: dict[str, Any] = {
            "userId": self.user_id,
            "email": self.address,
            "emailVerified": dice.random() < 0.8,
            "createdAt": born,
            "updatedAt": born,
        }
        profile |= _names(self.number, dice) | _phones(self.number, dice)
        if self.kind == "no_email":
            profile["email"] = ("", None, "   ")[self.number % 3]
        if self.kind == "guest_marked":
            profile["isGuest"] = True
        profile["tags"] = dice.sample(_TAGS, dice.randrange(3))
        return profile

    def grow_contact(self, list_id: int, other_list_id: int) -> dict[str, Any]:
        """Return the contact's values (arguments of `World.add_contact`)."""
        dice = self._random()
        contact: dict[str, Any] = {"email": self.address.strip().lower()}
        if self.number % 2:
            contact["email"] = contact["email"].replace("example", "Example")
        manual = dice.sample(("Kunde", "messe-2024", "Blå liste", "sesamyfan", "Sesamy_manual"), 2)
        lists: dict[int, Status] = {list_id: "a"}
        status: Status = "a"
        if self.contact in {"tagged", "unsubscribed", "bounced", "other_list"}:
            contact["tags"] = manual
        if self.contact in {"foreign_fields", "synced_before", "never_on_list"}:
            contact["custom"] = {"Shoe size": 44.5, "Favoritt": "blåbær", "Medlem siden": "2019-05-17", "VIP": False}
        if self.contact in {"named", "unsubscribed"}:
            contact |= {"first_name": "Kalle", "last_name": "Ankersen", "phone": "+47 22 00 00 00"}
        if self.contact == "synced_before":
            stale = ["sesamy_active_subscriber", "sesamy_made_single_purchase", "sesamy_tag_gone"]
            contact["tags"] = [manual[0], *stale, manual[1]]
            contact["custom"] |= {"Sesamy User ID": self.user_id, "Has Active Subscription": True}
            contact["custom"] |= {"Will Cancel At": "2024-02-29", "Issues Remaining": 3}
        if self.contact in {"unsubscribed", "bounced", "deleted"}:
            status = {"unsubscribed": "u", "bounced": "b", "deleted": "d"}[self.contact]  # type: ignore[assignment]
            lists = {list_id: status}
        if self.contact == "never_on_list":
            lists = {}
        if self.contact == "other_list":
            lists = {other_list_id: "u"}
        return contact | {"status": status, "lists": lists}


def seed_of(
    seed: int, number: int, kinds: Sequence[str] = USERS, contacts: Sequence[str] = CONTACTS, given_id: str = ""
) -> Seed:
    """Return the user with this number in a population of these kinds, each in turn."""
    return Seed(seed, number, kinds[number % len(kinds)], contacts[number % len(contacts)], given_id)


def _names(index: int, dice: random.Random) -> dict[str, Any]:
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    return (
        {"firstName": first, "lastName": last, "name": f"{first} {last}"},
        {"given_name": first, "family_name": last},
        {"firstName": first, "lastName": None},
        {"firstName": " ", "given_name": first, "family_name": last},
        {},
    )[index % 5]


def _phones(index: int, dice: random.Random) -> dict[str, Any]:
    number = f"{dice.randrange(40_000_000, 99_999_999)}"
    return (
        {"mobilePhone": f"+47 {number[:3]} {number[3:5]} {number[5:]}", "phone_number": "+4722000000"},
        {"phone_number": f"+47{number}"},
        {"mobilePhone": " ", "workPhone": f"0047{number}", "homePhone": "+46 8 123 45 67"},
        {"homePhone": f"{number}"},
        {"phone": f"+358 {number}"},
        {},
    )[index % 6]
