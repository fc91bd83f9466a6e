"""Records and batches that a Kafka client cannot decode, or only at a price (contract, "The topic")."""

import json

import pytest

from tests.batch_bytes import BAD_NAME, CODECS, batch, replaced, sealed
from tests.integration.oracle import address
from tests.integration.stage import VENDOR, Stage, event, headers, peak_memory, stop
from tests.kafka_client import Message
from tests.raw_producer import raw_producer
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

MIB = 1 << 20


def value(user_id: str) -> bytes:
    return event(user_id).value or b""


def odd_batch(users: list[str], *, attribute: bool = False) -> bytearray:
    """Return a batch of an event for each user; the one in the middle cannot be decoded by aiokafka."""
    middle = len(users) // 2
    name = "sporingsnoekke"
    records = [
        (user.encode(), value(user), ((name, b"1"),) if number == middle else ()) for number, user in enumerate(users)
    ]
    data = batch(records)
    if not attribute:
        return replaced(data, name.encode(), BAD_NAME)
    at = data.index(name.encode()) - 4 - len(value(users[middle])) - len(users[middle])
    while data[at]:  # back to the record's attributes, the last 0 before its time, offset and key
        at -= 1
    data[at] = 0xF8
    return sealed(data)


async def told(stage: Stage, *command: str) -> ServiceProcess:
    process = await stage.finish(*command)
    assert process.returncode == 0, process.output()
    return process


@pytest.mark.parametrize("attribute", [False, True], ids=["header name", "attribute"])
async def test_k1_a_record_that_cannot_be_decoded_is_a_dead_letter_without_content_and_costs_nothing_else(
    stage: Stage, attribute: bool
) -> None:
    users = stage.users(9)
    async with raw_producer(stage.kafka.bootstrap, stage.topic) as producer:
        appended = await producer.append(odd_batch(users[:7], attribute=attribute), 2)
    assert appended.error == ""
    await stage.send(event(users[7], partition=2), event(users[8]))
    service = await stage.service()
    await stage.all_committed()

    (letter,) = await stage.dead_letters()
    assert (letter.key, letter.value) == (None, None)
    marks = headers(letter)
    assert marks["dead-letter-reason"] == "malformed"
    assert (marks["dead-letter-partition"], marks["dead-letter-offset"]) == ("2", str(appended.offset + 3))
    assert marks["dead-letter-truncated"] == "true"
    assert stage.stale([*users[:3], *users[4:]]) == {}
    await stop(service)  # and so its log is complete
    (line,) = [line for line in service.output().splitlines() if "record.undecodable" in line]
    assert '"partition":2' in line.replace(" ", "")
    assert f'"offset":{appended.offset + 3}' in line.replace(" ", "")

    recording = f"{service.stdout}.ndjson"
    replayed = await told(stage, "replay", "--from", f"topic:{stage.topic}", "--to", recording)
    assert "1 records that cannot be decoded were skipped" in replayed.stderr.read_text()
    retry = await told(stage, "dead-letters", "retry", "--yes")
    assert "1 left out: without their value" in retry.output()


async def test_k1_dead_letters_that_cannot_be_decoded_are_skipped_by_every_command_that_reads_them(
    stage: Stage,
) -> None:
    user_id, rejected = stage.users(2)
    letters = f"{stage.topic}.dead-letters"
    async with raw_producer(stage.kafka.bootstrap, letters) as producer:
        assert (await producer.append(odd_batch(["a", "b", "c"]))).error == ""
    stage.fail(api="mailmojo", key=address(stage.user(rejected)), status=400)
    service = await stage.service()
    await stage.send(Message(b"odd", b"no event"), event(user_id))
    await stage.all_committed()
    assert stage.stale([user_id]) == {}

    listed = await told(stage, "dead-letters", "list", "--json")
    assert "1 records that cannot be decoded were skipped" in listed.stderr.read_text()
    assert len(listed.stdout.read_text().splitlines()) == 3
    exported = await told(stage, "dead-letters", "export")
    assert "1 records that cannot be decoded were skipped" in exported.stderr.read_text()
    shown = await told(stage, "dead-letters", "show", "0:0")
    assert "1 records that cannot be decoded were skipped" in shown.stderr.read_text()
    retried = await told(stage, "dead-letters", "retry", "--reason", "malformed", "--dry-run")
    assert "1 records that cannot be decoded were skipped" in retried.stderr.read_text()
    synced = await stage.finish("sync", user_id)
    assert synced.returncode == 0, synced.output()
    await stop(service)


async def test_k1_a_batch_damaged_on_the_brokers_disk_is_one_dead_letter(stage: Stage) -> None:
    users = stage.users(8)
    async with raw_producer(stage.kafka.bootstrap, stage.topic) as producer:
        good, bad = batch([(b"k", value(user), ()) for user in users[:2]]), odd_batch(users[2:6])
        assert (await producer.append(good, 1)).error == ""
        first = (await producer.append(bad, 1)).offset
    stage.kafka.damage(stage.topic, 1, BAD_NAME)
    await stage.send(event(users[6], partition=1), event(users[7], partition=0))
    service = await stage.service()
    await stage.all_committed()

    (letter,) = await stage.dead_letters()
    assert headers(letter)["dead-letter-offset"] == str(first)
    assert f"offsets {first} to {first + 3}" in headers(letter)["dead-letter-error"]
    assert "checksum" in headers(letter)["dead-letter-error"]
    assert stage.stale([*users[:2], *users[6:]]) == {}
    await stop(service)


async def test_k2_a_record_that_is_too_large_to_be_produced_again_is_stored_without_content(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    async with raw_producer(stage.kafka.bootstrap, stage.topic) as producer:
        keyless = await producer.append(batch([(None, b"x" * 1_048_500, ())]))
        with_headers = await producer.append(batch([(b"k", b"no event", (("own", bytes(1_048_400)),))]))
    assert keyless.error == with_headers.error == ""
    await stage.send(event(user_id, partition=0))
    service = await stage.service()
    await stage.all_committed()

    letters = {headers(letter)["dead-letter-offset"]: letter for letter in await stage.dead_letters()}
    assert (letters["0"].key, letters["0"].value) == (None, None)
    assert (letters["1"].key, letters["1"].value) == (b"k", None)
    assert {headers(letter)["dead-letter-truncated"] for letter in letters.values()} == {"true"}
    assert stage.stale([user_id]) == {}
    end = await stage.kafka.end_offsets(stage.topic)
    retry = await told(stage, "dead-letters", "retry", "--yes")
    assert "0 to be put back" in retry.output()
    assert await stage.kafka.end_offsets(stage.topic) == end
    listed = await told(stage, "dead-letters", "list", "--json")
    assert [json.loads(line)["truncated"] for line in listed.stdout.read_text().splitlines()] == [True, True]
    await stop(service)


@pytest.mark.parametrize(
    ("config", "key", "says"),
    [
        ({"max.message.bytes": "300"}, b"k", "max.message.bytes"),
        ({"cleanup.policy": "compact"}, None, "cleanup.policy"),
    ],
)
async def test_k15_a_dead_letter_topic_that_takes_no_letters_is_named_and_waited_for(
    stage: Stage, config: dict[str, str], key: bytes | None, says: str
) -> None:
    letters = f"{stage.topic}.dead-letters"
    (user_id,) = stage.users(1)
    await stage.kafka.alter_topic(letters, config)
    check = await stage.finish("check")
    assert check.returncode == 1
    assert says in check.output()
    assert letters in check.output()

    service = await stage.service()
    await stage.send(Message(key, b"no event", partition=0), event(user_id, partition=0))
    reason = await service.unready("dead_letters")
    assert says in reason
    assert letters in reason
    assert "since" in reason
    await wait_until(lambda: not stage.stale([user_id]), what="nobody else waits")
    assert (await stage.committed()).get(0, 0) == 0

    await stage.kafka.alter_topic(letters, {"max.message.bytes": "1048588", "cleanup.policy": "delete"})
    await stage.all_committed()
    await service.ready()
    assert len(await stage.dead_letters()) == 1
    await stop(service)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4", "snappy"])
async def test_k8_a_batch_that_decompresses_to_300_mib_takes_little_memory_and_the_group_goes_on(
    stage: Stage, codec: str
) -> None:
    users = stage.users(2)
    big = [(b"k", bytes(MIB), ())] * (20 if codec == "snappy" else 300)
    async with raw_producer(stage.kafka.bootstrap, stage.topic) as producer:
        data = batch([*big, (users[0].encode(), value(users[0]), ())], codec=CODECS[codec])
        await stage.kafka.alter_topic(stage.topic, {"max.message.bytes": str(2 * MIB)})
        appended = await producer.append(data)
    assert appended.error == "", appended
    del data, big
    await stage.send(event(users[1], partition=0))
    service = await stage.service(KAFKA_SESSION_TIMEOUT="8")
    await stage.all_committed(90)

    assert peak_memory(service) < 150
    assert await service.metric("rebalances_total") == 1
    assert stage.stale(users[1:] if codec in {"zstd", "lz4"} else users) == {}
    await stop(service)


async def test_k9_long_user_ids_are_malformed_and_take_no_memory(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    async with raw_producer(stage.kafka.bootstrap, stage.topic) as producer:
        for first in range(0, 3000, 10):
            records = [
                (
                    b"k",
                    json.dumps(
                        {"eventType": "contract.1#update", "vendorId": VENDOR, "userId": f"{number:0100000}"}
                    ).encode(),
                    (),
                )
                for number in range(first, first + 10)
            ]
            assert (await producer.append(batch(records, codec=CODECS["zstd"]))).error == ""
    await stage.send(event(user_id))
    service = await stage.service()
    await stage.all_committed(110)

    assert peak_memory(service) < 150
    assert await service.metric("dead_letters_total", reason="malformed") == 3000
    await stop(service)
