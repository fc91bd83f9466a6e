from typing import Any

import msgspec
import pytest

from consumer.sandbox.population import Seed
from tests.benchmarks.fake_users import (
    CALLS,
    CONTACT,
    CONTRACTS,
    ENTITLEMENTS,
    PATCH,
    PROFILE,
    TRANSACTIONS,
    USERS,
    Counts,
    FakeUsers,
    User,
    targets,
)

ANN, BOB = USERS[:2]


class Client:
    """Makes the calls of one user, as a correct contestant does unless told otherwise."""

    def __init__(self, users: FakeUsers, seed: Seed) -> None:
        self.users, self._seed = users, seed
        self.body = b""

    def open(self, call: int, body: bytes = b"") -> bytes:
        user, found = self.find(call)
        assert found == call
        user.begin(call, self.users.counts)
        return user.answer(call, body, self.users.counts)

    def call(self, call: int, body: bytes = b"") -> bytes:
        answer = self.open(call, body)
        self.close(call)
        return answer

    def close(self, call: int) -> None:
        self.find(call)[0].answered(call, self.users.counts)

    def find(self, call: int) -> tuple[User, int]:
        found = self.users.find(targets(self._seed)[call])
        assert found is not None
        return found

    def read(self) -> dict[str, Any]:
        profile = msgspec.json.decode(self.call(PROFILE))
        self.open(CONTRACTS)
        self.open(ENTITLEMENTS)
        self.close(CONTRACTS)
        self.close(ENTITLEMENTS)
        self.call(TRANSACTIONS)
        contact = msgspec.json.decode(self.call(CONTACT))
        version = next(tag for tag in profile["tags"] if tag.startswith("v-"))
        tags = [tag for tag in contact["tags"] if not tag.startswith("sesamy_")]
        return {
            "email": contact["email"],
            "tags": [*tags, f"sesamy_tag_{version}"],
            "custom": contact["custom"] | {"Sesamy User ID": self._seed.user_id},
        }

    def write(self, body: dict[str, Any]) -> None:
        self.call(PATCH, msgspec.json.encode(body))


@pytest.fixture
def users() -> FakeUsers:
    return FakeUsers((ANN, BOB))


def test_six_calls_in_order_are_a_sync_without_a_violation(users: FakeUsers) -> None:
    for seed in (ANN, BOB, ANN):
        client = Client(users, seed)
        client.write(client.read())
    counts = users.counts
    assert (counts.requests, counts.begun, counts.finished, counts.one_by_one) == (0, 3, 3, 0)
    assert counts.violations == 0, counts.examples
    assert users.in_flight() == 0


def test_every_sync_finds_something_to_write(users: FakeUsers) -> None:
    client = Client(users, ANN)
    first = client.read()
    client.write(first)
    second = client.read()
    assert first["tags"] != second["tags"]


@pytest.mark.parametrize(
    ("done", "call"),
    [
        ([], CONTRACTS),
        ([PROFILE], TRANSACTIONS),
        ([PROFILE, CONTRACTS], CONTACT),
        ([PROFILE, CONTRACTS, ENTITLEMENTS, TRANSACTIONS], PATCH),
    ],
)
def test_a_call_before_the_answers_that_it_needs_is_a_violation(users: FakeUsers, done: list[int], call: int) -> None:
    client = Client(users, ANN)
    for earlier in [PROFILE, *done][-len(done) :] if done else []:
        client.call(earlier)
    users.reset()
    if call == PATCH:
        client.call(call, b"{}")
    else:
        client.call(call)
    assert users.counts.violations >= 1


def test_two_syncs_of_a_user_at_once_are_a_violation(users: FakeUsers) -> None:
    client = Client(users, ANN)
    client.call(PROFILE)
    Client(users, BOB).call(PROFILE)
    assert users.counts.violations == 0
    assert users.in_flight() == 2
    client.call(PROFILE)
    assert users.counts.violations == 1
    assert "begins while another has not ended" in users.counts.examples[0]


def test_a_call_made_twice_in_a_sync_is_a_violation(users: FakeUsers) -> None:
    client = Client(users, ANN)
    client.call(PROFILE)
    client.call(CONTRACTS)
    client.call(CONTRACTS)
    assert users.counts.violations == 1


def test_contracts_and_entitlements_one_after_the_other_are_counted(users: FakeUsers) -> None:
    client = Client(users, ANN)
    client.call(PROFILE)
    client.call(CONTRACTS)
    client.call(ENTITLEMENTS)
    assert (users.counts.one_by_one, users.counts.violations) == (1, 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tags": ["sesamy_tag_v-000001"]}, "foreign tags"),
        ({"email": "other@example.no"}, "email"),
        ({"custom": {"Sesamy User ID": "email|other"}}, "user id"),
        ({"custom": {"Shoe size": 45}}, "foreign field"),
    ],
)
def test_a_write_that_damages_the_contact_is_a_violation(users: FakeUsers, change: dict[str, Any], named: str) -> None:
    client = Client(users, ANN)
    client.write(client.read() | change)
    assert users.counts.violations >= 1
    assert any(named in example for example in users.counts.examples)


def test_a_write_of_an_older_state_than_the_one_that_was_read_is_a_violation(users: FakeUsers) -> None:
    client = Client(users, ANN)
    old = client.read()
    client.write(old)
    client.read()
    client.write(old)
    assert users.counts.examples == [f"{ANN.user_id}: wrong in a PATCH: version"]


def test_after_a_kill_an_unfinished_sync_may_begin_again(users: FakeUsers) -> None:
    client = Client(users, ANN)
    client.call(PROFILE)
    users.forget_syncs()
    client.write(client.read())
    assert (users.counts.begun, users.counts.finished, users.counts.violations) == (2, 1, 0)


def test_a_target_is_found_however_it_is_percent_encoded(users: FakeUsers) -> None:
    for seed in USERS[:2]:
        for call in CALLS:
            target = targets(seed)[call]
            method, _, path = target.partition(" ")
            lower = path.replace("%7C", "%7c").replace("%40", "@")
            found = users.find(target)
            assert found is not None
            assert users.find(f"{method} {lower}") == found
    assert users.find("GET /management/users/nobody") is None
    assert users.find("DELETE /v1/contacts/x/") is None


def test_seconds_run_from_the_first_request_to_the_last_response() -> None:
    assert Counts(first=2.0, last=5.5).seconds == 3.5
