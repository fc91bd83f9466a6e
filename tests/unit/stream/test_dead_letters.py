import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiokafka.errors import (
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownTopicOrPartitionError,
)

from consumer.ops.metrics import Metrics
from consumer.stream.dead_letter_problems import Problem
from consumer.stream.dead_letters import DeadLetterError, DeadLetterTopic, Letter
from tests.unit.stream.in_virtual_time import in_virtual_time

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

Stored = tuple[bytes | None, bytes | None, dict[str, bytes | None]]


class Producer:
    """A topic that takes records up to so many bytes of key, value and headers, as aiokafka's producer stores them."""

    def __init__(self, largest: int = 1_000_000, *, compacted: bool = False) -> None:
        self.largest, self.compacted = largest, compacted
        self.stored: list[Stored] = []
        self.partitions: list[int] = []
        self.raises: BaseException | None = None

    async def send_and_wait(self, topic: str, value: bytes | None, *, key: bytes | None, headers: Any) -> None:
        assert not (key is None and value is None), "Need at least one: key or value"
        self._take(key, value, headers)

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    def create_batch(self) -> "Batch":
        return Batch()

    async def send_batch(self, batch: "Batch", topic: str, *, partition: int) -> "asyncio.Future[None]":
        sent = asyncio.get_running_loop().create_future()
        self.partitions.append(partition)
        try:
            self._take(None, None, batch.headers)
        except Exception as error:  # noqa: BLE001 - as a batch's future has it
            sent.set_exception(error)
        else:
            sent.set_result(None)
        return sent

    def _take(self, key: bytes | None, value: bytes | None, headers: Any) -> None:
        if self.raises is not None:
            raise self.raises
        if sum(len(part or b"") for part in (key, value, *(content for _, content in headers))) > self.largest:
            raise MessageSizeTooLargeError
        if self.compacted and key is None:
            raise UnknownError
        marks = [name for name, _ in headers if name.startswith("dead-letter-")]
        assert len(marks) == len(set(marks)), "each of them once"
        self.stored.append((key, value, dict(headers)))


class Batch:
    headers: Any = ()

    def append(self, *, timestamp: None, key: None, value: None, headers: Any) -> None:
        self.headers = headers

    def close(self) -> None:
        pass


class Bench:
    def __init__(self, producer: Producer) -> None:
        self.producer, self.now, self.metrics = producer, 1000.0, Metrics()
        self.topic = DeadLetterTopic(
            lambda: nullcontext(cast("AIOKafkaProducer", producer)),
            "dead",
            metrics=self.metrics,
            wall_clock=lambda: self.now,
        )

    def problem(self) -> Problem | None:
        return self.topic.problem

    async def store(self, error: str = "not JSON", offset: int = 1, **parts: Any) -> Stored:
        fields: dict[str, Any] = {"key": b"email|1", "value": b"value", "headers": (("trace", b"1"),)} | parts
        letter = Letter(topic="events", partition=4, offset=offset, **fields)
        await self.topic.store(letter, "malformed", error, 2)
        return self.producer.stored[-1]


async def test_a_letter_is_the_record_with_headers_that_say_why() -> None:
    key, value, headers = await Bench(Producer()).store()

    assert (key, value) == (b"email|1", b"value")
    assert headers == {
        "trace": b"1",
        "dead-letter-reason": b"malformed",
        "dead-letter-error": b"not JSON",
        "dead-letter-topic": b"events",
        "dead-letter-partition": b"4",
        "dead-letter-offset": b"1",
        "dead-letter-attempts": b"2",
        "dead-letter-at": b"1970-01-01T00:16:40.000+00:00",
    }


@pytest.mark.parametrize(
    ("parts", "key", "value", "keeps_headers"),
    [
        ({"value": bytes(2000)}, b"email|1", None, True),
        ({"headers": (("own", bytes(2000)),)}, b"email|1", None, False),
        ({"key": bytes(2000)}, None, None, False),
        ({"key": None, "value": bytes(2000)}, None, None, True),
        ({"key": None, "value": None, "headers": (("own", bytes(2000)),)}, None, None, False),
        ({"key": None, "value": None, "truncated": True}, None, None, True),
        ({"key": None, "value": bytes(2000), "headers": (("none", None), ("", b""))}, None, None, True),
    ],
)
async def test_k2_as_much_is_kept_as_the_topic_takes_and_the_rest_is_marked_as_truncated(
    parts: dict[str, Any], key: bytes | None, value: bytes | None, keeps_headers: bool
) -> None:
    stored = await Bench(Producer(1000)).store(**parts)

    assert stored[:2] == (key, value)
    assert stored[2]["dead-letter-truncated"] == b"true"
    own = {name for name in stored[2] if not name.startswith("dead-letter-")}
    assert own == ({name for name, _ in parts.get("headers", (("trace", b""),))} if keeps_headers else set())


async def test_the_same_letter_without_key_and_value_goes_to_the_same_partition() -> None:
    bench = Bench(Producer())
    for _ in range(2):
        await bench.store(key=None, value=None, truncated=True)
    assert bench.producer.partitions == [1, 1]


async def test_an_error_in_a_header_is_one_line_without_an_address_and_of_bounded_length() -> None:
    _, _, headers = await Bench(Producer()).store("bad \x1b[2J\r\nkari@example.no \ud83d" + "x" * 5000)
    error = headers["dead-letter-error"]

    assert error is not None
    assert error.startswith(rb"bad \x1b[2J\r\nk***@example.no \ud83dxxx")
    assert len(error) == 500


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (MessageSizeTooLargeError(), "raise its max.message.bytes"),
        (TopicAuthorizationFailedError("dead"), "grant it Write"),
        (UnknownTopicOrPartitionError(), "does not exist any more; create it"),
        (NotLeaderForPartitionError(), "has no leader; create it if it was deleted"),
        (LeaderNotAvailableError(), "has no leader; create it if it was deleted"),
        (NotEnoughReplicasError(), "min.insync.replicas"),
        (KafkaTimeoutError(), "no broker confirmed in time"),
        (AssertionError("Unrecognized partition"), "does not take a dead letter: AssertionError"),
        (RuntimeError("secret"), "does not take a dead letter: RuntimeError"),
        (asyncio.CancelledError(), "does not take a dead letter: CancelledError"),
    ],
)
async def test_k15_what_keeps_a_letter_from_being_stored_is_told_with_the_topic_and_the_time(
    failure: BaseException, says: str
) -> None:
    bench = Bench(Producer())
    assert bench.problem() is None
    bench.producer.raises = failure
    for _ in range(2):
        with pytest.raises(DeadLetterError):
            await bench.store()
        bench.now += 10

    problem = bench.problem()
    assert problem is not None
    assert says in problem.reason
    assert "dead (KAFKA_DEAD_LETTER_TOPIC)" in problem.reason
    assert problem.since == 1000
    bench.producer.raises = None
    await bench.store()
    assert bench.problem() is None


async def test_k15_a_compacted_topic_without_a_key_is_named_though_other_letters_are_stored() -> None:
    bench = Bench(Producer(compacted=True))
    with pytest.raises(DeadLetterError):
        await bench.store(key=None)
    await bench.store(offset=2)

    problem = bench.problem()
    assert problem is not None
    assert "cleanup.policy=compact" in problem.reason


async def test_k15_a_letter_that_another_instance_takes_over_is_no_problem_for_ever() -> None:
    bench = Bench(Producer(1))
    with pytest.raises(DeadLetterError):
        await bench.store()
    bench.now += 179
    assert bench.problem() is not None
    bench.now += 2
    assert bench.problem() is None


async def test_k15_failures_are_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(Producer(1))
    for _ in range(130):
        with pytest.raises(DeadLetterError):
            await bench.store()
        bench.now += 1

    assert capsys.readouterr().out.count("dead_letter.not_stored") == 3


@in_virtual_time
async def test_a_topic_that_does_not_answer_counts_as_failed_after_some_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(Producer())
    monkeypatch.setattr(bench.producer, "send_and_wait", lambda *_, **__: asyncio.sleep(100))
    with pytest.raises(DeadLetterError):
        await bench.store()
    assert asyncio.get_running_loop().time() == 5


@in_virtual_time
async def test_a_cancellation_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Producer())
    monkeypatch.setattr(bench.producer, "send_and_wait", lambda *_, **__: asyncio.sleep(100))
    task = asyncio.create_task(bench.store())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert bench.problem() is None


async def test_a_letter_that_fails_again_after_a_retry_has_the_reasons_of_now_only() -> None:
    bench = Bench(Producer())
    _, _, first = await bench.store("the first error")
    _, _, second = await bench.store("the second error", headers=tuple(first.items()))

    assert second["dead-letter-error"] == b"the second error"
    assert second["trace"] == b"1"


async def test_letters_are_counted_by_their_reason_once_they_are_stored() -> None:
    bench = Bench(Producer())
    await bench.store()
    bench.producer.raises = TimeoutError()
    with pytest.raises(DeadLetterError):
        await bench.store()

    def count(reason: str) -> float | None:
        return bench.metrics.registry.get_sample_value("sesamy_mailmojo_dead_letters_total", {"reason": reason})

    assert (count("malformed"), count("rejected")) == (1, 0)
