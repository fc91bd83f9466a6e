"""`python -m tests.chaos.mutations`: batches of events with random bytes changed, as many as the broker accepts.

The checksum is made to fit, so the broker takes most of them. In the end the service must be running, every record that
a Kafka client can decode must be done, and every other one a dead letter. What can be decoded is judged by aiokafka's
own reader in pure Python, one record at a time, which shares no code with the one in use.
"""

import argparse
import random
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import codec as codecs
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint
from msgspec import Struct

from consumer.sandbox import World
from schemas.events import STANDARD_EVENT_TYPES, MalformedEvent, decode_event
from tests.batch_bytes import CODECS, HEADER, batch, sealed
from tests.chaos.experiment import Result, main, say
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Record
from tests.raw_producer import RawProducer, raw_producer
from tests.waiting import wait_until

_PARTITIONS: Final = 4
_LARGEST_BATCH: Final = 6
_DECOMPRESS: Final[dict[str, Any]] = {
    "none": bytes,
    "gzip": codecs.gzip_decode,
    "snappy": codecs.snappy_decode,
    "lz4": codecs.lz4_decode,
    "zstd": codecs.zstd_decode,
}
_COMPRESS: Final[dict[str, Any]] = {
    "none": bytes,
    "gzip": codecs.gzip_encode,
    "snappy": codecs.snappy_encode,
    "lz4": codecs.lz4_encode,
    "zstd": codecs.zstd_encode,
}


class _Accepted(Struct, frozen=True):
    """A batch that the broker took: where it lies, what was sent, and the user of each record that was not changed."""

    partition: int
    offset: int
    data: bytes
    records: list[bytes]
    """The records as they were sent, where they can be told apart: not if the damage is in what is compressed."""
    untouched: dict[int, str]


class _Letters:
    """The dead letters by the offsets that they stand for, whether as a record or as a whole batch."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.spans: list[tuple[int, int, int, Record]] = []
        for record in records:
            marks = {n: (value or b"").decode() for n, value in record.headers if n.startswith("dead-letter-")}
            partition, offset = int(marks["dead-letter-partition"]), int(marks["dead-letter-offset"])
            span = re.match(r"the batch with offsets (\d+) to (\d+)", marks["dead-letter-error"])
            self.spans.append((partition, offset, int(span[2]) if span else offset, record))

    def at(self, partition: int, offset: int) -> list[Record]:
        return [record for where, first, last, record in self.spans if where == partition and first <= offset <= last]


async def mutations(kafka: KafkaBroker, folder: Path, *, count: int, seed: int) -> Result:
    """Have so many changed batches accepted, let the service work, and judge every record of them."""
    rng = random.Random(seed)
    world = World()
    async with open_stage(kafka, folder, world, partitions=_PARTITIONS) as stage:
        stage.group.start("a")
        await stage.group.joined("a")
        async with raw_producer(kafka.bootstrap, stage.topic) as producer:
            accepted, refused = await _send(rng, world, producer, count)
        end = await kafka.end_offsets(stage.topic)
        say(f"{count} accepted, {sum(refused.values())} refused; waiting for the service")
        missed = await _drained(kafka, stage, end, within=60 + count / 5)
        letters = _Letters(await kafka.read_all(f"{stage.topic}.dead-letters"))
        found = Counter[str]()
        for one in accepted:
            missed += _judged(stage, one, letters, found)
        service = stage.group["a"]
        if service.returncode is not None:
            missed.append(f"the service ended with {service.returncode}")
        missed += [f"it logged {event['event']}" for event in service.events() if event.get("event") == "sync.fault"]
        records = {
            "records": sum(end.values()),
            **{name: found[name] for name in ("done", "undecodable", "no event", "cannot be judged")},
            "dead letters": len(letters.spans),
        }
        of_broker = ", ".join(f"{number} {error}" for error, number in refused.most_common())
        return Result(
            {"seed": seed, "batches accepted": count, "refused by the broker": of_broker or "none", **records}, missed
        )


async def _send(
    rng: random.Random, world: World, producer: RawProducer, count: int
) -> tuple[list[_Accepted], Counter[str]]:
    accepted, refused, users = list[_Accepted](), Counter[str](), 0
    while len(accepted) < count:
        size = rng.randint(1, _LARGEST_BATCH)
        ids = [f"email|m{users + number:05}" for number in range(size)]
        users += size
        data, changed, untouched = _mutated(rng, ids)
        partition = rng.randrange(_PARTITIONS)
        for user_id in ids:
            world.add_user(user_id, profile={"email": f"{user_id[6:]}@example.no", "firstName": "Kari"})
        appended = await producer.append(data, partition)
        if appended.error:
            refused[appended.error] += 1
            continue
        accepted.append(_Accepted(partition, appended.offset, bytes(data), changed, untouched))
    return accepted, refused


def _mutated(rng: random.Random, ids: Sequence[str]) -> tuple[bytearray, list[bytes], dict[int, str]]:
    """Return a batch of an event for each user with some bytes changed, its records, and whose were not changed."""
    original = batch([_event(rng, user_id) for user_id in ids])
    codec = rng.choice(list(CODECS))
    records = list(_sliced(bytes(original[HEADER:]), len(ids)))
    changed = dict(enumerate(records))
    kind = rng.choices(("record", "compressed", "header"), (8, 1, 1))[0]
    if kind == "record":
        for number in rng.sample(range(len(ids)), rng.randint(1, min(2, len(ids)))):
            changed[number] = _changed(rng, records[number])
    data = bytearray(original[:HEADER]) + _COMPRESS[codec](b"".join(changed.values()))
    struct.pack_into(">h", data, 21, CODECS[codec])
    if kind == "compressed":
        data[rng.randrange(HEADER, len(data))] ^= 1 << rng.randrange(8)
    elif kind == "header":
        data[rng.randrange(21, HEADER)] ^= 1 << rng.randrange(8)
    if kind != "record":
        return sealed(data), [], {}
    return sealed(data), list(changed.values()), {n: user for n, user in enumerate(ids) if changed[n] == records[n]}


def _event(rng: random.Random, user_id: str) -> tuple[bytes, bytes, list[tuple[str, bytes | None]]]:
    kind = rng.choice(STANDARD_EVENT_TYPES)
    value = b'{"eventType": "%s", "vendorId": "chaos", "userId": "%s"}' % (kind.encode(), user_id.encode())
    headers: list[tuple[str, bytes | None]] = [("trace", b"1"), ("none", None), ("trace", b"2")]
    return user_id.encode(), value, headers[: rng.randint(0, 3)]


def _changed(rng: random.Random, record: bytes) -> bytes:
    """Return the record with one to three bytes changed, at its ends as often as in between."""
    data = bytearray(record)
    for _ in range(rng.randint(1, 3)):
        near = rng.choice((range(min(8, len(data))), range(max(0, len(data) - 25), len(data)), range(len(data))))
        data[rng.choice(near)] = rng.choice((0, 1, 0x7F, 0x80, 0xF8, 0xFF, rng.randrange(256)))
    return bytes(data)


def _sliced(payload: bytes, count: int) -> Iterator[bytes]:
    """Yield the records one by one, as far as their lengths lead."""
    at = 0
    for _ in range(count):
        length, begin = decode_varint(bytearray(payload), at)
        if length < 0 or begin + length > len(payload):
            return
        yield payload[at : begin + length]
        at = begin + length


def _judged(stage: Stage, one: _Accepted, letters: _Letters, found: Counter[str]) -> Iterator[str]:
    header = list(struct.unpack_from(">qiibIhiqqqhii", one.data))
    last, count = header[6], header[12]
    decoded = _decoded(one, header, count)
    for number in range(last + 1):
        offset = one.offset + number
        there = letters.at(one.partition, offset)
        where = f"partition {one.partition}, offset {offset}"
        expected = decoded.get(number)
        if expected == "unknown":
            found["cannot be judged"] += 1
        elif expected is None:
            found["undecodable"] += 1
            if not there:
                yield f"{where}: cannot be decoded, and is no dead letter; {one.data.hex()}"
            elif (there[0].key, there[0].value) != (None, None):
                yield f"{where}: cannot be decoded, and its dead letter has content"
        elif expected == "no event":
            found["no event"] += 1
            if not there:
                yield f"{where}: is no event, and no dead letter"
        else:
            found["done"] += 1
            if there:
                error = dict(there[0].headers)["dead-letter-error"] or b""
                yield f"{where}: can be decoded, and is a dead letter: {error.decode()}; {one.data.hex()}"
        user_id = one.untouched.get(number)
        if user_id is not None and (expected != "event" or stage.sandbox.world.contact(stage.address(user_id)) is None):
            yield f"{where}: {user_id} was not changed, and is not done ({expected or 'cannot be decoded'})"


def _decoded(one: _Accepted, header: list[int], count: int) -> dict[int, str]:
    """Return what the records are that can be decoded, by number: `event`, `no event` or `tombstone`.

    After one whose length leads nowhere they are `unknown`, unless it is known where they are.
    """
    slices, found = one.records, dict[int, str]()
    if not slices:
        name = {number: name for name, number in CODECS.items()}.get(header[5] & 7)
        try:
            payload = bytes(_DECOMPRESS[name or ""](one.data[HEADER:]))
        except Exception:  # noqa: BLE001 - damaged on purpose
            return {}
        slices = list(_sliced(payload, count))
        if any(not _what(record, header, number) for number, record in enumerate(slices)):
            found = dict.fromkeys(range(count), "unknown")
    return found | {number: what for number, record in enumerate(slices) if (what := _what(record, header, number))}


def _what(record: bytes, header: list[int], number: int) -> str:
    own = list(header)
    own[0], own[5], own[12] = 0, header[5] & ~7, 1
    try:
        (found,) = _DefaultRecordBatchPy(struct.pack(">qiibIhiqqqhii", *own) + record)
    except Exception:  # noqa: BLE001 - damaged on purpose
        return ""
    if found.offset != number:
        return ""
    if found.value is None:
        return "tombstone"
    try:
        decode_event(found.value)
    except MalformedEvent:
        return "no event"
    return "event"


async def _drained(kafka: KafkaBroker, stage: Stage, end: dict[int, int], within: float) -> list[str]:
    async def reached() -> bool:
        commits = await kafka.committed(stage.topic, stage.topic)
        return all(
            commits[partition].offset >= last for partition, last in end.items() if last and partition in commits
        )

    try:
        await wait_until(reached, within, what=f"the commits reach {end}")
    except TimeoutError as error:
        return [str(error)]
    return []


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await mutations(kafka, folder, count=args.count, seed=args.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="batches accepted (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
