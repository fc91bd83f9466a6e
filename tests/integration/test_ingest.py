"""`ingest` against a real broker: what it acknowledged is in the topic, whatever happens to the broker or to it."""

import asyncio
import json
import re
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Self

import aiohttp
import pytest
from confluent_kafka import Producer

from tests.crowd import REJECTED, crowd
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

SECRET = "open sesame"
USERS = 40
HEAD = b"POST /events HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret: %s"

StartService = Callable[..., ServiceProcess]
NewTopic = Callable[..., Awaitable[str]]


class Answer(NamedTuple):
    status: int
    body: dict[str, str | int]
    retry_after: str | None


def event(number: int) -> bytes:
    return json.dumps(
        {
            "eventType": "contract.1#update",
            "vendorId": "vendor_123",
            "userId": f"email|{number % USERS:024x}",
            "contractId": f"contract_{number}",
        }
    ).encode()


def user(number: int) -> bytes:
    return f"email|{number % USERS:024x}".encode()


class Ingest:
    """A running endpoint."""

    def __init__(self, process: ServiceProcess, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}/events"

    @classmethod
    async def ready(cls, process: ServiceProcess) -> Self:
        """Wait until the endpoint takes events."""
        await process.ready()
        return cls(process, int((await process.logged("ingest.listening"))[0]["port"]))

    async def post(self, session: aiohttp.ClientSession, body: bytes, secret: str = SECRET) -> Answer:
        headers = {"X-Webhook-Secret": secret, "Content-Type": "application/json"}
        async with session.post(self.url, data=body, headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers.get("Retry-After"))

    async def post_until_stored(self, session: aiohttp.ClientSession, body: bytes) -> None:
        async def stored() -> bool:
            return (await self.post(session, body)).status == 202

        await wait_until(stored, what="an event is stored")

    async def is_unready(self) -> bool:
        return (await self.process.get("/readyz"))[0] == 503


@pytest.fixture
def ingest(service_process: StartService) -> Callable[[str], Awaitable[Ingest]]:
    async def start(topic: str) -> Ingest:
        return await Ingest.ready(service_process("ingest", KAFKA_TOPIC=topic, INGEST_PORT="0", INGEST_SECRET=SECRET))

    return start


async def test_no_acknowledged_event_is_lost_when_the_broker_dies_under_load(
    kafka: KafkaBroker, topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    name = await topic(4)
    endpoint = await ingest(name)
    acknowledged: dict[int, Answer] = {}
    statuses: dict[int, int] = {}
    refused: list[int] = []
    numbers = iter(range(10**9))
    done = asyncio.Event()

    async def send(session: aiohttp.ClientSession) -> None:
        while not done.is_set():
            number = next(numbers)
            intruder = number % 10 == 0
            answer = await endpoint.post(session, event(number), "guessed" if intruder else SECRET)
            if intruder:
                refused.append(answer.status)
                continue
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert (answer.retry_after is not None) == (answer.status == 503)
            if answer.status == 202:
                acknowledged[number] = answer

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(24):
            tasks.create_task(send(session))
        await wait_until(lambda: len(acknowledged) > 500, what="some events are acknowledged")
        await asyncio.to_thread(kafka.kill)
        await wait_until(lambda: statuses.get(503, 0) >= 24, what="503 while the broker is away")
        assert await endpoint.is_unready()
        before = len(acknowledged)
        await asyncio.to_thread(kafka.restart)
        await wait_until(lambda: len(acknowledged) > before + 500, what="events are acknowledged again")
        done.set()

    assert set(statuses) == {202, 503}
    assert refused
    assert set(refused) == {401}
    await endpoint.process.ready()
    stored = {(record.partition, record.offset): record for record in await kafka.read_all(name)}
    for number, answer in acknowledged.items():
        record = stored[int(answer.body["partition"]), int(answer.body["offset"])]
        assert (record.key, record.value) == (user(number), event(number))
    contracts = [int(re.findall(rb"contract_(\d+)", record.value or b"")[0]) for record in stored.values()]
    assert not [number for number in contracts if number % 10 == 0]
    places = {(record.key, record.partition) for record in stored.values()}
    assert len(places) == len({key for key, _ in places})
    assert "email|" not in endpoint.process.output()
    assert SECRET not in endpoint.process.output()


async def test_a_silent_broker_is_a_503_within_seconds_and_a_stop_answers_what_was_accepted(
    kafka: KafkaBroker, topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    endpoint = await ingest(await topic(2))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await endpoint.post_until_stored(session, event(0))
        kafka.freeze()
        try:
            answers = await asyncio.wait_for(asyncio.gather(*(endpoint.post(session, event(n)) for n in range(9))), 30)
            assert {(answer.status, answer.retry_after) for answer in answers} == {(503, "5")}
            assert "kafka" in (await endpoint.process.get("/readyz"))[1]
            assert (await endpoint.process.get("/livez"))[0] == 200
        finally:
            kafka.thaw()
        await endpoint.process.ready()
        await endpoint.post_until_stored(session, event(0))
        kafka.freeze()
        try:
            accepted = [asyncio.create_task(endpoint.post(session, event(n))) for n in range(9)]

            async def all_wait() -> bool:
                return await endpoint.process.metric("ingest_requests_in_flight") == 9

            await wait_until(all_wait, what="nine requests wait for the broker")
            endpoint.process.terminate()
            await wait_until(lambda: endpoint.process.events("ingest.stopping"), what="it stops")
        finally:
            kafka.thaw()
        assert [answer.status for answer in await asyncio.gather(*accepted)] == [202] * 9
        with pytest.raises(aiohttp.ClientConnectionError):
            await endpoint.post(session, event(1))
    assert await endpoint.process.exit_code() == 0


async def test_a_record_that_the_topic_refuses_costs_only_itself(
    topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    endpoint = await ingest(await topic(1, config={"max.message.bytes": "2000"}))
    async with aiohttp.ClientSession() as session:
        await endpoint.post_until_stored(session, event(0))
        large = json.dumps({**json.loads(event(1)), "more": "x" * 5000}).encode()
        assert (await endpoint.post(session, large)).status == 413
        for number in range(2, 12):
            await endpoint.post_until_stored(session, event(number))
    assert await endpoint.process.metric("ingest_producers_replaced_total") >= 1


async def test_a_user_has_one_partition_whichever_producer_follows_the_key_rule(
    kafka: KafkaBroker, topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    name = await topic(12)
    endpoint = await ingest(name)
    async with aiohttp.ClientSession() as session:
        for number in range(USERS):
            assert (await endpoint.post(session, event(number))).status == 202
    await kafka.produce(name, [Message(user(number), event(number)) for number in range(USERS)])
    librdkafka = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
    for number in range(USERS):
        librdkafka.produce(name, event(number), user(number))
    assert await asyncio.to_thread(librdkafka.flush, 20) == 0
    records = await kafka.read_all(name)
    assert len(records) == 3 * USERS
    assert len({(record.key, record.partition) for record in records}) == USERS
    assert len({record.partition for record in records}) > 6


async def test_a_body_that_is_announced_as_too_large_is_refused_before_it_comes(
    topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    endpoint = await ingest(await topic(1))
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(HEAD % SECRET.encode() + b"\r\nContent-Length: 999999999999\r\n\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 30)
    writer.close()


async def test_connections_that_send_no_whole_request_keep_nobody_out_for_long(
    topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]]
) -> None:
    endpoint = await ingest(await topic(1))
    async with aiohttp.ClientSession() as session:
        await endpoint.post_until_stored(session, event(0))
        slow = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(20)]
        for _, writer in slow[1:]:
            writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\n")
        for reader, writer in slow:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
        await endpoint.post_until_stored(session, event(1))  # over the connection that was idle meanwhile


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE",
        HEAD + b"\x01 kari@x.no",
        b"POST /events HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret : %s",
        HEAD + b"\r\nContent-Length: kari@x.no",
        HEAD + b"\r\nTransfer-Encoding: chunked\r\n\r\nkari@x.no",
        HEAD + b"\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nkari@x.no",
    ],
)
async def test_what_is_hardly_http_is_refused_and_nothing_of_it_is_logged(
    kafka: KafkaBroker, topic: NewTopic, ingest: Callable[[str], Awaitable[Ingest]], sent: bytes
) -> None:
    name = await topic(1)
    endpoint = await ingest(name)
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(sent.replace(b"%s", SECRET.encode()) + b"\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    endpoint.process.terminate()
    assert await endpoint.process.exit_code() == 0
    assert await kafka.read_all(name) == []
    for personal in (SECRET, "kari", "Traceback"):
        assert personal not in endpoint.process.output()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"KAFKA_TOPIC": "no.such.topic"}, "KAFKA_TOPIC"), ({"INGEST_HOST": "203.0.113.1"}, "INGEST_HOST")],
)
async def test_what_keeps_it_from_starting_is_one_line(
    topic: NewTopic, service_process: StartService, settings: dict[str, str], says: str
) -> None:
    given = {"KAFKA_TOPIC": await topic(1), "INGEST_PORT": "0", "INGEST_SECRET": SECRET, **settings}
    process = service_process("ingest", **given)
    assert await process.exit_code() == 1
    (line,) = [line for line in process.stderr.read_text().splitlines() if not line.startswith("{")]
    assert says in line


@pytest.mark.parametrize("first", [b"", REJECTED])
async def test_p4_half_requests_keep_no_event_out(
    kafka: KafkaBroker, topic: NewTopic, service_process: StartService, first: bytes
) -> None:
    name = await topic(4)
    process = service_process("ingest", KAFKA_TOPIC=name, INGEST_PORT="0", INGEST_SECRET=SECRET)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))
    it = await Ingest.ready(process)
    async with crowd(it.port, 306, first), aiohttp.ClientSession() as session:
        async with asyncio.timeout(40):
            for number in range(100):
                await it.post_until_stored(session, event(number))
        assert not await it.is_unready()
    assert sum((await kafka.end_offsets(name)).values()) >= 100
