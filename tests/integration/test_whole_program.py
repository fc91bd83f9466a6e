"""Everything that a topic may hold, through the service, to every contact that it should make."""

import json
import random
from collections import Counter
from datetime import datetime

from tests.integration.oracle import View, address, expected, is_skipped
from tests.integration.stage import EVENT_TYPES, VENDOR, Stage, event, gathered, headers, peak_memory, stop
from tests.kafka_client import Message

USERS = 300
SILENT = 12  # the last users get no event
RECORDS = 2000
SYNC_REQUEST = "sesamy-mailmojo#sync"
WELL_FORMED = {"eventType": EVENT_TYPES[0], "vendorId": VENDOR, "userId": "email|x", "occured_at": "2025-11-10T12:00Z"}
WRONG: tuple[object, ...] = (None, 7, [], {}, True, "")
MALFORMED = {
    "not JSON": b"{eventType",
    "nothing at all": b"",
    "not UTF-8": json.dumps(WELL_FORMED).encode().replace(b"email|x", b"email|\xff"),
    "cut off": json.dumps(WELL_FORMED).encode()[:40],
    "nested too deeply": b"[" * 20_000,
    "a list": b"[]",
    "a text": b'"email|x"',
    "a number": b"7",
    "null as JSON": b"null",
    **{
        f"no {key}": json.dumps({name: value for name, value in WELL_FORMED.items() if name != key}).encode()
        for key in ("userId", "vendorId", "eventType")
    },
    **{
        f"{key} is {value!r}": json.dumps(WELL_FORMED | {key: value}).encode()
        for key in ("userId", "vendorId", "eventType")
        for value in WRONG
    },
    **{f"a user id {dots}": json.dumps(WELL_FORMED | {"userId": dots}).encode() for dots in (".", "..")},
    "a Confluent prefix alone": b"\0\0\0\0\7",
    "a Confluent prefix before no JSON": b"\0\0\0\0\7\x02\x08avro",
}


def records(user_ids: list[str], dice: random.Random) -> tuple[list[Message], dict[str, int]]:
    """Return records of every kind, and how many there are of those that no sync answers."""
    kinds = (*EVENT_TYPES, SYNC_REQUEST)
    found = [event(user_id, kinds[number % len(kinds)]) for number, user_id in enumerate(user_ids * 3)]
    found += [event(dice.choice(user_ids[:40]), dice.choice(kinds), contractId="") for _ in range(300)]
    found += [event(f"email|{dice.getrandbits(96):024x}", dice.choice(EVENT_TYPES)) for _ in range(60)]
    found += [
        message._replace(value=b"\0\0\0\0\7" + (message.value or b"")) for message in dice.sample(found, 100)
    ]  # and once more as they are: duplicates
    unknown_types = [event(dice.choice(user_ids), f"contract.2#{name}") for name in ("new", "gone") for _ in range(40)]
    foreign = [event(user_id, vendor="vendor_other") for user_id in user_ids[:80]]
    tombstones = [Message(user_id.encode(), None) for user_id in user_ids[:60]]
    malformed = [
        Message(
            user_ids[number % 30].encode() if number % 5 else None, value, (("trace", b"\xff"), ("kind", kind.encode()))
        )
        for number, (kind, value) in enumerate(MALFORMED.items())
    ]
    counts = {
        "skipped_type": len(unknown_types),
        "skipped_vendor": len(foreign),
        "skipped_tombstone": len(tombstones),
        "dead_lettered": len(malformed),
    }
    found += [*unknown_types, *foreign, *tombstones, *malformed]
    found += dice.sample(found[:900], RECORDS - len(found))
    dice.shuffle(found)
    return found, counts


async def test_every_record_has_its_effect_once_and_every_contact_becomes_what_the_references_say(stage: Stage) -> None:
    world, dice = stage.world, random.Random(2)
    world.populate(USERS)
    user_ids = world.user_ids()
    before = {
        user_id: world.contact(address(stage.user(user_id))) if address(stage.user(user_id)) else None
        for user_id in user_ids
    }
    asked = user_ids[:-SILENT]
    messages, counts = records(asked, dice)
    assert len(messages) == RECORDS
    places = await stage.send(*messages)
    assert {partition for partition, _ in places} == {0, 1, 2, 3}

    service = await stage.service(SESAMY_VENDOR_ID=VENDOR)
    await stage.all_committed()

    wrong = {}
    for user_id in user_ids:
        user, old = stage.user(user_id), before[user_id]
        right = expected(user, old, 7) if user_id in asked else View.of(old)
        new = View.of(world.contact(address(user))) if address(user) else None
        if new != right:
            wrong[user_id] = (new, right)
    assert wrong == {}
    assert _read(stage).isdisjoint(user_ids[-SILENT:])
    assert {address(stage.user(user_id)) for user_id in asked if is_skipped(stage.user(user_id))}.isdisjoint(
        record.address for record in stage.log.writes()
    )

    letters = await stage.dead_letters()
    sent = dict(zip(places, messages, strict=True))
    origins = []
    for letter in letters:
        about = headers(letter)
        origins.append((int(about["dead-letter-partition"]), int(about["dead-letter-offset"])))
        original = sent[origins[-1]]
        assert (letter.key, letter.value) == (original.key, original.value)
        assert letter.headers[: len(original.headers)] == original.headers
        assert (about["dead-letter-reason"], about["dead-letter-topic"]) == ("malformed", stage.topic)
        assert about["dead-letter-error"]
        assert about["dead-letter-attempts"].isdecimal()
        assert datetime.fromisoformat(about["dead-letter-at"]).tzinfo is not None
    assert Counter(sent[origin].value for origin in origins) == Counter(MALFORMED.values())

    for outcome, count in counts.items():
        assert await service.metric("events_total", outcome=outcome) == count, outcome
    assert await service.metric("events_total") == RECORDS
    assert await service.metric("dead_letters_total", reason="malformed") == len(MALFORMED)
    assert await service.metric("consumer_lag") == 0
    assert await service.metric("events_pending") == 0
    await stage.assert_sentinels(service)
    stage.assert_discreet(await gathered(service))
    assert peak_memory(service) < 150
    await stop(service)

    seen = stage.log.count
    again = await stage.service(SESAMY_VENDOR_ID=VENDOR)
    await stage.send(*(Message(b"any", None, partition=partition) for partition in range(4)))
    await stage.all_committed()
    assert stage.writes_since(seen) == []
    assert stage.requests_since(seen, "get_user", "get_contact") == []
    assert await again.metric("events_total") == await again.metric("events_total", outcome="skipped_tombstone") == 4
    await stop(again)


def _read(stage: Stage) -> set[str | None]:
    return {record.user_id for record in stage.requests_since(0, "get_user")}
