from typing import Any

import msgspec
import pytest

from consumer.sandbox.population import Seed
from tests.benchmarks.fake import Connection, Fake, State
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


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.fixture
def connection() -> tuple[Any, Any]:
    transport: Any = Transport()
    connection = Connection(Fake())
    connection.connection_made(transport)
    return connection, transport


def test_a_request_may_arrive_in_pieces_and_two_in_one(connection: tuple[Any, Any]) -> None:
    server, transport = connection
    target = targets(ANN)[PROFILE].encode()
    server.data_received(target + b" HTTP/1.1\r\nHost: a\r\n")
    assert transport.written == []
    contracts = targets(ANN)[CONTRACTS].encode()
    server.data_received(b"\r\n" + contracts + b" HTTP/1.1\r\n\r\n")
    assert [answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in transport.written] == [True, True]
    head, _, body = transport.written[0].partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert msgspec.json.decode(body)["userId"] == ANN.user_id


def test_a_body_is_waited_for_and_commands_are_no_requests_about_users(connection: tuple[Any, Any]) -> None:
    server, transport = connection
    server.data_received(b"POST /oauth/token HTTP/1.1\r\ncontent-length: 4\r\n\r\nab")
    assert transport.written == []
    server.data_received(b"cd")
    assert b"access_token" in transport.written.pop()
    server.data_received(b"GET /control/counts HTTP/1.1\r\n\r\n")
    state = msgspec.json.decode(transport.written.pop().partition(b"\r\n\r\n")[2], type=State)
    assert (state.requests, state.others, state.violations, state.in_flight) == (0, 1, 0, 0)


def test_a_request_that_no_sync_makes_is_a_violation(connection: tuple[Any, Any]) -> None:
    server, transport = connection
    server.data_received(b"GET /v1/lists/ HTTP/1.1\r\n\r\nGET /control/counts HTTP/1.1\r\n\r\n")
    state = msgspec.json.decode(transport.written[1].partition(b"\r\n\r\n")[2], type=State)
    assert state.violations == 1


def test_a_client_that_is_gone_gets_no_response(connection: tuple[Any, Any]) -> None:
    server, transport = connection
    server.connection_lost(None)
    server.respond(b"{}")
    assert transport.written == []
