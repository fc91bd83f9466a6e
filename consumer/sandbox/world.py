"""The state behind both fakes: Sesamy's users, Mailmojo's contacts, lists and account fields.

Each user has a version that grows with every change and shows in what a sync writes (the profile's tag `v-000007`
becomes `sesamy_tag_v-000007`), so a stale or lost write can be seen from the contact alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from consumer.sandbox import population
from consumer.sandbox.contacts import Association, Contact, Status, damage, fold

LIST_ID = 7
OTHER_LIST_ID = 8

Items = Sequence[dict[str, Any]]


class User(Struct, kw_only=True):
    """A user of Sesamy; profile, contracts, entitlements and transactions as they stand on the wire."""

    id: str
    version: int = 1
    profile: dict[str, Any]
    contracts: list[dict[str, Any]] = []
    entitlements: list[dict[str, Any]] = []
    transactions: list[dict[str, Any]] = []


class Change(Struct, frozen=True, gc=False):
    """A user's change: when (monotonic and unix seconds) and which version it made."""

    user_id: str
    version: int
    at: float
    at_unix: float


class Applied(Struct, frozen=True):
    """What a call did to a contact; `serial` orders all changes of all contacts."""

    serial: int
    before: Contact | None
    after: Contact
    damage: tuple[str, ...]


class World:
    """Users and contacts in memory. Not a server: tests and the control endpoint change it while the fakes serve it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        """Start empty, with two lists and no account fields."""
        self.lists = {LIST_ID: "Newsletter", OTHER_LIST_ID: "Other"}
        self.fields: dict[str, str] = {}
        self.changes: list[Change] = []
        self._clock = clock
        self._wall = wall
        # A dormant user or contact is only its place in the population: 100,000 of them cost no time until read.
        self._users: dict[str, User | population.Seed] = {}
        self._contacts: dict[str, Contact | population.Seed] = {}
        self._serial = 0

    def populate(
        self,
        n: int,
        seed: int = 1,
        *,
        kinds: Sequence[str] = population.USERS,
        contacts: Sequence[str] = population.CONTACTS,
        ids: Sequence[str] = (),
    ) -> None:
        """Add `n` users of these kinds in turn, and what Mailmojo knew of them before. Same seed, same world.

        The first users have these ids, the others invented ones.
        """
        self.fields |= population.FOREIGN_FIELDS
        for index in range(n):
            given = ids[index] if index < len(ids) else ""
            seedling = population.seed_of(seed, index, kinds, contacts, given)
            self._users[seedling.user_id] = seedling
            if seedling.contact != "none" and (address := seedling.address):
                self._contacts[fold(address)] = seedling

    def add_user(
        self,
        user_id: str,
        *,
        profile: dict[str, Any] | None = None,
        contracts: Items = (),
        entitlements: Items = (),
        transactions: Items = (),
    ) -> User:
        """Add a user (version 1), or replace one. `profile` needs no id; its `tags` gain the version."""
        user = User(id=user_id, profile={"userId": user_id} | (profile or {}))
        user.contracts, user.entitlements, user.transactions = list(contracts), list(entitlements), list(transactions)
        self._users[user_id] = user
        self._show_version(user)
        return user

    def user(self, user_id: str) -> User | None:
        """Return the user, or None when Sesamy does not know this id."""
        found = self._users.get(user_id)
        if isinstance(found, population.Seed):
            grown = found.grow()
            return self.add_user(user_id, **grown)
        return found

    def user_ids(self) -> list[str]:
        """Return all ids in the order in which the users were added."""
        return list(self._users)

    def change(
        self,
        user_id: str,
        *,
        profile: dict[str, Any] | None = None,
        contracts: Items | None = None,
        entitlements: Items | None = None,
        transactions: Items | None = None,
    ) -> int:
        """Change a user and return the new version: profile keys are laid over, the lists replaced, the version shown.

        Where a first contract counts issues and no contracts are given, its `issuesRemaining` becomes the version.

        Raises:
            KeyError: no such user.
        """
        user = self.user(user_id)
        if user is None:
            raise KeyError(user_id)
        user.version += 1
        now = self.now()
        user.profile = user.profile | (profile or {}) | {"updatedAt": now}
        if contracts is not None:
            user.contracts = list(contracts)
        elif user.contracts and user.contracts[0].get("issuesRemaining") is not None:
            first = user.contracts[0] | {"issuesRemaining": user.version, "updatedAt": now}
            user.contracts = [first, *user.contracts[1:]]
        if entitlements is not None:
            user.entitlements = list(entitlements)
        if transactions is not None:
            user.transactions = list(transactions)
        self._show_version(user)
        self.changes.append(Change(user_id, user.version, self._clock(), self._wall()))
        return user.version

    def remove_user(self, user_id: str) -> None:
        """Make Sesamy forget a user.

        Raises:
            KeyError: no such user.
        """
        del self._users[user_id]

    def add_contact(
        self,
        email: str,
        *,
        first_name: str = "",
        last_name: str = "",
        phone: str = "",
        tags: Iterable[str] = (),
        custom: dict[str, Any] | None = None,
        status: Status = "a",
        lists: dict[int, Status] | None = None,
    ) -> Contact:
        """Add a contact, or replace one, as a marketer would; on the synced list unless `lists` says otherwise."""
        now = self.now()
        places = {LIST_ID: status} if lists is None else lists
        contact = Contact(
            email=email,
            first_name=first_name,
            last_name=last_name,
            phone=phone,
            tags=tuple(tags),
            custom=custom or {},
            status=status,
            added=now,
            status_changed=now,
            associations=tuple(Association(list_id, place, now, now) for list_id, place in places.items()),
        )
        self._contacts[fold(email)] = contact
        return contact

    def contact(self, address: str) -> Contact | None:
        """Return the contact with this address, whatever its case."""
        found = self._contacts.get(fold(address))
        if isinstance(found, population.Seed):
            return self.add_contact(**found.grow_contact(LIST_ID, OTHER_LIST_ID))
        return found

    def contacts(self) -> Iterator[Contact]:
        """Yield every contact."""
        for address in list(self._contacts):
            contact = self.contact(address)
            if contact is not None:
                yield contact

    def edit_contact(self, address: str, **changes: Any) -> Contact:
        """Change a contact as a marketer would, between two syncs: tags, custom (whole), names, phone, status.

        Raises:
            KeyError: no such contact.
        """
        contact = self.contact(address)
        if contact is None:
            raise KeyError(address)
        if "tags" in changes:
            changes["tags"] = tuple(changes["tags"])
        edited = replace(contact, **changes, version=contact.version + 1)
        self._contacts[fold(address)] = edited
        self._serial += 1
        return edited

    def remove_contact(self, address: str) -> None:
        """Make Mailmojo forget a contact.

        Raises:
            KeyError: no such contact.
        """
        del self._contacts[fold(address)]

    def apply(self, before: Contact | None, after: Contact) -> Applied:
        """Store what a call made of a contact and return what it did."""
        self._contacts[fold(after.email)] = after
        self._serial += 1
        return Applied(self._serial, before, after, damage(before, after) if before else ())

    def now(self) -> str:
        """Return the time as both APIs write it."""
        return datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @staticmethod
    def _show_version(user: User) -> None:
        others = [tag for tag in user.profile.get("tags") or [] if not tag.startswith("v-")]
        user.profile["tags"] = [*others, f"v-{user.version:06d}"]
