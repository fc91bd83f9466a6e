"""aiokafka's own fetcher over answers of a broker: a new version that works differently fails here."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER

from consumer import kafka
from consumer.records import fetching
from consumer.records.fetching import Fetched, UndecodableRecord, decodable
from tests.batch_bytes import BAD_NAME, CODECS, batch, events, placed, replaced, sealed

Logs: TypeAlias = Mapping[TopicPartition, Sequence[bytes | bytearray]]

PLACE = TopicPartition("t", 0)
OTHER = TopicPartition("t", 1)


class Broker:
    """Answers fetches from what each partition holds, as aiokafka's client would hand them on."""

    def __init__(self, logs: Logs, aborted: Sequence[tuple[int, int]] = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata_max_age_ms = 1000
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 0, broker_metadata=lambda _: None)
        self.logs = logs
        self.aborted = list(aborted)
        self.requests = 0

    async def send(self, _node: int, request: Any) -> Any:
        self.requests += 1
        await asyncio.sleep(0.001)
        parts = []
        for topic, partitions in request.topics:
            for partition, offset, _ in partitions:
                held = self.logs.get(TopicPartition(topic, partition), ())
                data = b"".join(one for one in held if _last_offset(one) >= offset)
                parts.append((partition, 0, 1000, 1000, 0, self.aborted, data))
        return SimpleNamespace(API_VERSION=5, topics=[("t", parts)])

    def force_metadata_update(self) -> Any:
        raise AssertionError("not needed")


def _last_offset(data: bytes | bytearray) -> int:
    return int.from_bytes(data[:8]) + int.from_bytes(data[23:27])


@asynccontextmanager
async def fetching_from(broker: Broker, *, committed: bool = True) -> AsyncIterator[Any]:
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user(list(broker.logs))
    for place in broker.logs:
        subscriptions.seek(place, 0)
    level = "read_committed" if committed else "read_uncommitted"
    found = fetcher.Fetcher(broker, subscriptions, isolation_level=level)
    try:
        yield found
    finally:
        await found.close()


async def read(broker: Broker, count: int, **more: Any) -> list[Fetched]:
    records: list[Fetched] = []
    async with asyncio.timeout(60), fetching_from(broker, **more) as found:
        while len(records) < count:
            for batch_of_one in (await found.fetched_records([], 0.1)).values():
                records += batch_of_one
    return records


def test_it_is_in_place_for_every_consumer_of_this_process() -> None:
    assert kafka.reader_arguments is not None  # importing it installs
    replacements = {"MemoryRecords": "_Answer", "PartitionRecords": "_Records", "FetchResult": "_Result"}
    for name, replacement in replacements.items():
        assert vars(fetcher)[name] is vars(fetching)[replacement]
        assert name in fetcher.Fetcher._proc_fetch_request.__code__.co_names


async def test_k1_what_cannot_be_decoded_is_returned_as_such_and_reading_goes_on() -> None:
    odd = replaced(
        batch([(b"k", b"good", ()), (b"k", b"odd", (("sporingsnoekke", b"1"),)), (b"k", b"end", ())], 3),
        b"sporingsnoekke",
        BAD_NAME,
    )
    broken = events(4, 6)
    broken[-1] ^= 1
    records = await read(Broker({PLACE: [events(3), odd, broken, events(2, 10)], OTHER: [events(2)]}), 11)

    mine = [record for record in records if record.partition == 0]
    assert [record.offset for record in mine] == [0, 1, 2, 3, 4, 5, 6, 10, 11]
    bad = [record for record in mine if isinstance(record, UndecodableRecord)]
    assert [(record.offset, record.last_offset) for record in bad] == [(4, 4), (6, 9)]
    assert {(record.key, record.value, tuple(record.headers)) for record in bad} == {(None, None, ())}
    assert bad[1].reason == "the batch with offsets 6 to 9 cannot be decoded: its checksum is wrong"
    assert len([record for record in records if record.partition == 1]) == 2


async def test_k1_a_poll_that_meets_damage_loses_nothing_of_other_partitions() -> None:
    broken = events(2)
    broken[-1] ^= 1
    records = await read(Broker({PLACE: [events(2)], OTHER: [broken]}), 3)

    assert sorted((record.partition, record.offset) for record in records) == [(0, 0), (0, 1), (1, 0)]
    assert [record.offset for record in decodable({PLACE: records})] == [0, 1]


def marker(base: int, producer: int, kind: Any) -> bytearray:
    data = batch([(kind.version.to_bytes(2) + kind.type_.to_bytes(2), b"\0" * 6, ())], base, 0, producer)
    data[22] |= 0x30  # control and transactional
    return sealed(data)


async def test_records_of_an_aborted_transaction_are_left_out_of_what_is_committed() -> None:
    log = [
        events(2, 0, producer=7, transactional=True),
        marker(2, 7, ABORT_MARKER),
        events(2, 3, producer=7, transactional=True),
        events(1, 5),
        marker(6, 7, COMMIT_MARKER),
        events(1, 7),
    ]
    committed = await read(Broker({PLACE: log}, aborted=[(7, 0)]), 4)
    everything = await read(Broker({PLACE: log}), 6, committed=False)

    assert [record.offset for record in committed] == [3, 4, 5, 7]
    assert [record.offset for record in everything] == [0, 1, 3, 4, 5, 7]


async def test_a_poll_returns_no_more_records_than_asked_for() -> None:
    async with asyncio.timeout(60), fetching_from(Broker({PLACE: [events(10, 0, CODECS["zstd"])]})) as found:
        polls = [await found.fetched_records([], 0.5, 4) for _ in range(3)]

    assert [[record.offset for record in poll[PLACE]] for poll in polls] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_k8_a_poll_returns_no_more_than_some_megabytes_and_the_next_goes_on_from_there() -> None:
    broker = Broker({PLACE: [batch([(b"k", bytes(1 << 20), ())] * 20, 0, CODECS["gzip"])]})
    sizes, offsets = list[int](), list[int]()
    async with asyncio.timeout(60), fetching_from(broker) as found:
        while len(offsets) < 20:
            records = [record for part in (await found.fetched_records([], 0.5)).values() for record in part]
            offsets += [record.offset for record in records]
            sizes.append(sum(len(record.value) for record in records))

    assert offsets == list(range(20))
    assert max(sizes) <= 4 << 20
    assert broker.requests <= 2  # the rest of the answer is kept, not asked for again


async def test_a_single_record_can_be_asked_for() -> None:
    broken = placed(events(2), 1)
    broken[-1] ^= 1
    async with asyncio.timeout(60), fetching_from(Broker({PLACE: [events(1), broken, events(1, 3)]})) as found:
        records = [await found.next_record([]) for _ in range(3)]

    assert [record.offset for record in records] == [0, 1, 3]
    assert isinstance(records[1], UndecodableRecord)
