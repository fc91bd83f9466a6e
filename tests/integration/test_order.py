"""P2 and P3: a user's events take effect in order, one at a time, while hundreds of users are under way."""

from collections import defaultdict

import pytest

from consumer.sandbox import Plan, Record
from tests.integration.oracle import address
from tests.integration.stage import Stage, event, stop

USERS = 150
ROUNDS = 4


@pytest.mark.parametrize("coalesce", ["true", "false"])
async def test_a_users_events_take_effect_in_order_while_hundreds_are_in_flight(stage: Stage, coalesce: str) -> None:
    users = stage.users(USERS)
    stage.sandbox.faults.set(Plan(latency=0.05, jitter=0.15))
    service = await stage.service(SYNC_COALESCE=coalesce, SYNC_CONCURRENCY="256")
    for _ in range(ROUNDS):
        for user_id in users:
            stage.world.change(user_id)
        await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()

    assert stage.stale(users) == {}
    by_user = syncs(stage, users)
    assert overlapping_syncs(by_user) == []
    assert misread_writes(by_user) == []
    assert at_once(by_user) > 100
    reads = len(stage.requests_since(0, "get_user"))
    if coalesce == "true":
        assert USERS <= reads < USERS * ROUNDS
    else:
        assert reads == USERS * ROUNDS  # one sync per event, in the order of the topic
    assert await service.metric("events_total") == USERS * ROUNDS
    await stage.assert_sentinels(service)
    await stop(service)


async def test_two_users_with_one_address_write_its_contact_in_turn_and_the_last_event_wins(stage: Stage) -> None:
    ann, bob = "email|ann", "email|bob"
    stage.world.add_user(ann, profile={"email": "Familien@example.no"})
    stage.world.add_user(bob, profile={"email": " familien@Example.no"})
    stage.sandbox.faults.set(Plan(latency=0.01, jitter=0.04))
    service = await stage.service(SYNC_COALESCE="false", SYNC_LINGER="0")
    for _ in range(10):
        for user_id in (ann, bob):
            stage.world.change(user_id)
        await stage.send(event(ann), event(bob))
    await stage.all_committed()
    writes = stage.log.writes("familien@example.no")
    assert {write.user_id for write in writes} == {ann, bob}

    for last in (ann, bob):
        await stage.send(event(last))
        await stage.all_committed()
        contact = stage.contact(last)
        assert contact is not None
        assert contact.custom["Sesamy User ID"] == last
    assert await service.metric("contact_conflicts_total") >= 2
    await stop(service)


def syncs(stage: Stage, user_ids: list[str]) -> dict[str, list[Record]]:
    """Return each user's requests to either API, by their start."""
    by_address = {address(stage.user(user_id)): user_id for user_id in user_ids}
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(stage.log.records, key=lambda record: record.start):
        if owner := record.user_id or by_address.get(record.address or ""):
            found[owner].append(record)
    return found


def overlapping_syncs(by_user: dict[str, list[Record]]) -> list[tuple[Record, Record]]:
    """Return pairs of a request and the first read of the user's next sync that began before it ended."""
    return [
        (earlier, record)
        for requests in by_user.values()
        for number, record in enumerate(requests)
        if record.operation == "get_user"
        for earlier in requests[:number]
        if earlier.end > record.start
    ]


def misread_writes(by_user: dict[str, list[Record]]) -> list[Record]:
    """Return the writes that carry another version than the user's last read did."""
    found = []
    for requests in by_user.values():
        version = None
        for record in requests:
            if record.operation == "get_user":
                version = record.user_version
            elif record.write and record.user_version != version:
                found.append(record)
    return found


def at_once(by_user: dict[str, list[Record]]) -> int:
    """Return how many users had a request open at the same moment, at the most."""
    edges = sorted(
        edge for requests in by_user.values() for record in requests for edge in ((record.start, 1), (record.end, -1))
    )
    most = level = 0
    for _, step in edges:
        level += step
        most = max(most, level)
    return most
