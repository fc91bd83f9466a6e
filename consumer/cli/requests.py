"""Sync requests in the topic: our own records, which ask the running service to sync a user."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer import kafka
from consumer.cli import output
from consumer.dead_letters.stored import StoredLetter
from consumer.failure import Failure
from consumer.records.fetching import UndecodableRecord
from consumer.replay.topics import to_record
from consumer.settings import KafkaSettings, Settings
from consumer.stream import sync_results
from consumer.stream.offset_map import UnreadableMap, decode
from consumer.sync_requests import encode
from schemas.events import REPORT_HEADER

_LOOK_EVERY: Final = 0.5
"""Seconds between looks at the group's commits."""


class Request(Struct, frozen=True):
    """A sync request and its place in the topic."""

    user_id: str
    partition: int
    offset: int


Requester = Callable[[Sequence[str]], Awaitable[list[Request]]]


class DeadLetter(Struct, frozen=True):
    """What a dead letter says of itself."""

    reason: str
    error: str


async def put(settings: Settings, user_ids: Sequence[str], *, report: bool = False) -> list[Request]:
    """Store a request for each user and return where they are. The topic must exist.

    With `report` the service is asked to tell the result of each, for `wait`.

    Raises:
        Failure: a request could not be stored.
    """
    async with open_requester(settings, report=report) as request:
        return await request(user_ids)


@asynccontextmanager
async def open_requester(settings: Settings, *, report: bool = False) -> AsyncIterator[Requester]:
    """Open a function that does what `put` does, for callers with many requests."""
    producer = AIOKafkaProducer(**kafka.producer_arguments(settings.kafka))
    headers = [(REPORT_HEADER, b"1")] if report else []

    async def request(user_ids: Sequence[str]) -> list[Request]:
        sent = [
            await producer.send(settings.kafka.topic, encode(settings, user_id), key=user_id.encode(), headers=headers)
            for user_id in user_ids
        ]
        places = await asyncio.gather(*sent)
        return [Request(user, place.partition, place.offset) for user, place in zip(user_ids, places, strict=True)]

    try:
        await producer.start()
        yield request
    except (KafkaError, OSError) as error:
        raise Failure(kafka.explain(settings.kafka, error)) from error
    finally:
        await kafka.stop(producer)


async def wait(
    settings: Settings,
    requests: Collection[Request],
    timeout: float,  # noqa: ASYNC109 - its user's option
    done: dict[Request, str | None],
) -> None:
    """Wait until the group has done the requests, at most `timeout` seconds, and put the result of each into `done`.

    The result is None where the service did not tell it: it does not know such requests (an older version), or its
    partition was taken over in between.

    Raises:
        Failure: Kafka cannot be reached.
    """
    end = asyncio.get_running_loop().time() + timeout
    async with kafka.admin(settings.kafka) as client:
        while True:
            commits = await kafka.group_offsets(client, settings.group_id, settings.kafka.topic)
            for request in requests:
                if request not in done and _is_done(request, commits):
                    done[request] = _result(request, commits[request.partition])
            if len(done) == len(requests) or asyncio.get_running_loop().time() >= end:
                return
            await asyncio.sleep(_LOOK_EVERY)


def _result(request: Request, commit: kafka.Committed) -> str | None:
    return sync_results.read(commit.metadata, commit.offset).get(request.offset)


def _is_done(request: Request, commits: Mapping[int, kafka.Committed]) -> bool:
    commit = commits.get(request.partition)
    if commit is None:
        return False
    try:
        above = decode(commit.metadata, commit.offset)
    except UnreadableMap:
        above = frozenset()
    return request.offset < commit.offset or request.offset in above


class DeadLetterWatch:
    """Finds the dead letters of requests among what the dead-letter topic receives after `start`."""

    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        self._settings = settings
        self._places = [TopicPartition(settings.dead_letter_topic, number) for number in range(partitions)]
        self._since: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(**kafka.reader_arguments(settings))

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign(self._places)
            self._since = await self._consumer.end_offsets(self._places)
        except (KafkaError, OSError) as error:
            await kafka.stop(self._consumer)
            raise Failure(kafka.explain(self._settings, error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await kafka.stop(self._consumer)

    async def find(self, requests: Collection[Request]) -> dict[Request, DeadLetter]:
        """Return the requests that ended as dead letters.

        When one sync answered a request together with newer events of its user, the newest of them is the dead
        letter (`docs/contract.md`, the topic): it counts for the request.
        """
        found: dict[Request, DeadLetter] = {}
        try:
            ends = await self._consumer.end_offsets(self._places)
            for place, start in self._since.items():
                self._consumer.seek(place, start)
            while any([await self._consumer.position(place) < end for place, end in ends.items()]):
                for record in chain.from_iterable((await self._consumer.getmany(timeout_ms=200)).values()):
                    if isinstance(record, UndecodableRecord):
                        output.complain(
                            f"topic {record.topic}, partition {record.partition}, offset {record.offset}: "
                            f"skipped, {record.reason}"
                        )
                        continue
                    letter = StoredLetter.of(to_record(record))
                    for request in requests:
                        if _answers(request, letter, self._settings.topic):
                            found[request] = DeadLetter(letter.reason, letter.error)
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self._settings, error)) from error
        return found


def _answers(request: Request, letter: StoredLetter, topic: str) -> bool:
    if (letter.topic, letter.partition) != (topic, request.partition) or letter.offset is None:
        return False
    of_later_event = letter.offset > request.offset and letter.record.key == request.user_id.encode()
    return letter.offset == request.offset or (of_later_event and letter.reason != "malformed")
