"""The state behind the fast fake: answers by user, and whether the requests about a user make up proper syncs. Pure."""

from typing import Any
from urllib.parse import parse_qs, quote, unquote

import msgspec
from msgspec import Struct

from consumer.sandbox.answers import Answers
from consumer.sandbox.contacts import SESAMY_FIELDS, fold, full_contact, posted
from consumer.sandbox.population import Seed
from consumer.sandbox.world import LIST_ID

USERS = tuple(Seed(1, number, "recurring", "tagged") for number in range(1_000))
"""The users of every load: each has one recurring contract, and a contact on the list."""

PROFILE, CONTRACTS, ENTITLEMENTS, TRANSACTIONS, CONTACT, PATCH = CALLS = (1, 2, 4, 8, 16, 32)
"""The six calls of a sync, as bits."""

ALL = sum(CALLS)
_READS = PROFILE | CONTRACTS | ENTITLEMENTS | TRANSACTIONS
_NEEDED = {
    PROFILE: 0,
    CONTRACTS: PROFILE,
    ENTITLEMENTS: PROFILE,
    TRANSACTIONS: PROFILE | CONTRACTS,
    CONTACT: _READS,
    PATCH: _READS | CONTACT,
}
"""Which calls must have been answered before a call begins."""

_EXAMPLES = 5


class Counts(Struct, kw_only=True):
    """What the fake has seen since it was reset.

    Attributes:
        requests: requests about users.
        others: requests for a token or the account fields.
        begun: syncs, which begin with a read of the profile.
        finished: syncs whose PATCH was answered.
        violations: requests out of order, twice in a sync, beside another sync of the user, or that write something
            wrong: not the state that the sync read, or not what was in the contact before.
        one_by_one: syncs that read contracts and entitlements one after the other.
        examples: the first violations, in words.
        first: time of the first request about a user, on the monotonic clock.
        last: time of the last answer about a user.
    """

    requests: int = 0
    others: int = 0
    begun: int = 0
    finished: int = 0
    violations: int = 0
    one_by_one: int = 0
    examples: list[str] = []
    first: float = 0.0
    last: float = 0.0

    @property
    def seconds(self) -> float:
        """From the start of the first request to the end of the last answer."""
        return self.last - self.first

    def violation(self, text: str) -> None:
        """Count a violation."""
        self.violations += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


class User:
    """One user with the contact. Each read of the profile finds a newer state, so each sync has something to write."""

    def __init__(self, seed: Seed) -> None:
        state = seed.grow()
        self.id = seed.user_id
        self.address = fold(seed.address)
        self.profile: dict[str, Any] = state["profile"]
        self.lists = {
            CONTRACTS: msgspec.json.encode(state["contracts"]),
            ENTITLEMENTS: msgspec.json.encode(state["entitlements"]),
            TRANSACTIONS: msgspec.json.encode(state["transactions"]),
        }
        given = seed.grow_contact(LIST_ID, 0)
        body = {key: given[key] for key in ("email", "tags")} | {"custom": {"Shoe size": 44.5}}
        self.contact: dict[str, Any] = full_contact(
            posted(None, body, Answers(), LIST_ID, "2025-01-01T12:00:00Z"), Answers(), {}
        )
        self._foreign = list(given["tags"])
        self._version = 0
        self._begun = self._answered = ALL

    @property
    def in_flight(self) -> bool:
        """Whether a sync has begun and its PATCH is not answered yet."""
        return self._answered != ALL

    def begin(self, call: int, counts: Counts) -> None:
        """Note that a request arrived."""
        if call == PROFILE:
            if self.in_flight or self._begun != ALL:
                counts.violation(f"{self.id}: a sync begins while another has not ended")
            self._begun = self._answered = 0
            self._version += 1
            counts.begun += 1
        elif self._begun & call:
            counts.violation(f"{self.id}: call {call} twice in a sync")
        if self._answered & _NEEDED[call] != _NEEDED[call]:
            counts.violation(f"{self.id}: call {call} before the answers to {_NEEDED[call] & ~self._answered}")
        if call in {CONTRACTS, ENTITLEMENTS} and (CONTRACTS | ENTITLEMENTS) & self._answered:
            counts.one_by_one += 1
        self._begun |= call

    def answered(self, call: int, counts: Counts) -> None:
        """Note that a response was written."""
        self._answered |= call
        if call == PATCH:
            counts.finished += 1

    def forget_sync(self) -> None:
        """Expect a new sync: the client that was in the middle of one was killed."""
        self._begun = self._answered = ALL

    def answer(self, call: int, body: bytes, counts: Counts) -> bytes:
        """Return the body of the response."""
        if call == PROFILE:
            return msgspec.json.encode(self.profile | {"tags": [self._tag]})
        if call == CONTACT:
            return msgspec.json.encode(self.contact)
        if call == PATCH:
            return self._patch(msgspec.json.decode(body), counts)
        return self.lists[call]

    @property
    def _tag(self) -> str:
        return f"v-{self._version:06d}"

    def _patch(self, body: dict[str, Any], counts: Counts) -> bytes:
        tags, custom = body.get("tags") or [], body.get("custom") or {}
        wrong = [
            name
            for name, is_wrong in (
                ("email", fold(body.get("email") or "") != self.address),
                ("foreign tags", [tag for tag in tags if not tag.startswith("sesamy_")] != self._foreign),
                ("version", f"sesamy_tag_{self._tag}" not in tags),
                ("user id", custom.get("Sesamy User ID", self.contact["custom"].get("Sesamy User ID")) != self.id),
            )
            if is_wrong
        ]
        if wrong:
            counts.violation(f"{self.id}: wrong in a PATCH: {', '.join(wrong)}")
        self.contact["tags"] = tags
        self.contact["custom"] = self.contact["custom"] | custom
        if self.contact["custom"].get("Shoe size") != 44.5:
            counts.violation(f"{self.id}: a PATCH changed a foreign field")
        names = ("email", "first_name", "last_name", "phone", "tags", "custom")
        for name in ("first_name", "last_name", "phone"):
            self.contact[name] = body.get(name, self.contact.get(name))
        return msgspec.json.encode({name: self.contact.get(name) for name in names})


class FakeUsers:
    """All users, and which user and call a request's method and target name."""

    def __init__(self, seeds: tuple[Seed, ...] = USERS) -> None:
        self._users = {seed.user_id: User(seed) for seed in seeds}
        self._by_address = {user.address: user for user in self._users.values()}
        self.counts = Counts()

    def reset(self) -> None:
        """Count from zero."""
        self.counts = Counts()

    def find(self, request: str) -> tuple[User, int] | None:
        """Return the user and the call of a request such as `GET /management/users/email%7C1`; None for another one."""
        method, _, target = request.partition(" ")
        path, _, query = target.partition("?")
        match method, path.split("/"):
            case "GET", ["", "management", "users", user_id]:
                return self._found(self._users, unquote(user_id), PROFILE)
            case "GET", ["", "management", name] if name in _LISTS:
                user_ids = parse_qs(query).get("userId") or [""]
                return self._found(self._users, user_ids[0], _LISTS[name])
            case (("GET" | "PATCH"), ["", "v1", "contacts", address, ""]):
                return self._found(self._by_address, unquote(address), CONTACT if method == "GET" else PATCH)
        return None

    def in_flight(self) -> int:
        """Return how many syncs have begun and not ended."""
        return sum(user.in_flight for user in self._users.values())

    def forget_syncs(self) -> None:
        """Expect new syncs: the client was killed."""
        for user in self._users.values():
            user.forget_sync()

    @staticmethod
    def _found(users: dict[str, User], name: str, call: int) -> tuple[User, int] | None:
        user = users.get(name)
        return None if user is None else (user, call)


_LISTS = {"contracts": CONTRACTS, "entitlements": ENTITLEMENTS, "transactions": TRANSACTIONS}

FIELDS = msgspec.json.encode([{"name": name, "type": kind} for name, kind in SESAMY_FIELDS.items()])
"""The account fields as Mailmojo lists them."""


def targets(seed: Seed) -> dict[int, str]:
    """Return by call the method and target of the requests about a user, as the clients in Python write them."""
    user, address = quote(seed.user_id, safe=""), quote(fold(seed.address), safe="")
    return {
        PROFILE: f"GET /management/users/{user}",
        CONTRACTS: f"GET /management/contracts?userId={user}&limit=100&offset=0",
        ENTITLEMENTS: f"GET /management/entitlements?userId={user}",
        TRANSACTIONS: f"GET /management/transactions?userId={user}&limit=100&offset=0",
        CONTACT: f"GET /v1/contacts/{address}/",
        PATCH: f"PATCH /v1/contacts/{address}/",
    }
