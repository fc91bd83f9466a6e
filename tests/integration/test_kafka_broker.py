import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import OffsetAndMetadata

from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message

NewTopic = Callable[..., Awaitable[str]]


async def test_what_was_produced_is_read_back_with_key_headers_and_partition(
    kafka: KafkaBroker, topic: NewTopic
) -> None:
    name = await topic(partitions=3)
    await kafka.produce(
        name,
        [
            Message(b"ann", b"1", (("trace", b"x"),), 2),
            Message(b"ann", b"2", partition=2),
            Message(b"bob", None, partition=0),
        ],
    )
    assert [(r.partition, r.offset, r.key, r.value, r.headers) for r in await kafka.read_all(name)] == [
        (0, 0, b"bob", None, ()),
        (2, 0, b"ann", b"1", (("trace", b"x"),)),
        (2, 1, b"ann", b"2", ()),
    ]
    assert await kafka.end_offsets(name) == {0: 1, 1: 0, 2: 2}


async def test_a_commit_keeps_its_metadata(kafka: KafkaBroker, topic: NewTopic) -> None:
    name = await topic(partitions=2)
    await kafka.commit("readers", name, {1: OffsetAndMetadata(7, "v1:7:AAAA")})
    assert await kafka.committed("readers", name) == {1: OffsetAndMetadata(7, "v1:7:AAAA")}


async def test_records_and_commits_survive_a_kill(kafka: KafkaBroker, topic: NewTopic) -> None:
    name = await topic()
    await kafka.produce(name, [Message(b"ann", b"before")])
    await kafka.commit("survivors", name, {0: OffsetAndMetadata(1, "")})
    before = kafka.pid
    await asyncio.to_thread(kafka.restart)
    assert kafka.pid != before
    await kafka.produce(name, [Message(b"ann", b"after")])
    assert [record.value for record in await kafka.read_all(name)] == [b"before", b"after"]
    assert await kafka.committed("survivors", name) == {0: OffsetAndMetadata(1, "")}


async def test_a_frozen_broker_answers_only_after_the_thaw(kafka: KafkaBroker, topic: NewTopic) -> None:
    name = await topic()
    kafka.freeze()
    try:
        answer = asyncio.ensure_future(kafka.end_offsets(name))
        done, _ = await asyncio.wait([answer], timeout=0.5)
        assert not done
    finally:
        kafka.thaw()
    assert await answer == {0: 0}


async def test_a_topic_grows_and_loses_its_oldest_records(kafka: KafkaBroker, topic: NewTopic) -> None:
    name = await topic()
    await kafka.add_partitions(name, 2)
    await kafka.produce(name, [Message(b"ann", value, partition=1) for value in (b"1", b"2")])
    await kafka.delete_records(name, {1: 1})
    assert [record.value for record in await kafka.read_all(name)] == [b"2"]


async def test_nothing_creates_a_missing_topic(kafka: KafkaBroker, topic: NewTopic) -> None:
    name = await topic(dead_letters=False)
    with pytest.raises(UnknownTopicOrPartitionError):
        await kafka.end_offsets(f"{name}.dead-letters")
    await kafka.delete_topic(name)
    with pytest.raises(UnknownTopicOrPartitionError):
        await kafka.read_all(name)
