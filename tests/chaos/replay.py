"""`python -m tests.chaos.replay`: a million records at once, then a thousand a second, and a bare loop of aiokafka.

What arrives is compared with what was sent: each key's values, in order, with their number and their times. At a rate
it is the interval between the first record and the last, as the broker stamped them, and when each was due. The bare
loop reads and writes the same records with the same sizes of batches, in turn with the replay; medians are compared.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.chaos.experiment import Result, main, say
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess

_PARTITIONS = 6
_BATCH = 128 * 1024
_PACING_BOUND = 0.01


class Key(NamedTuple):
    """What one key's records were: how many, and a digest of their values and times in order."""

    records: int
    digest: str


async def replay(
    kafka: KafkaBroker, folder: Path, *, records: int, keys: int, rate: float, seconds: float, rounds: int
) -> Result:
    """Replay so many records of so many keys flat out, then `rate` a second for so long."""
    source, target, paced, bare = [await _topic(kafka, name) for name in ("source", "target", "paced", "bare")]
    say(f"{records:,} records of {keys:,} keys are produced")
    await _produce(kafka, source, records, keys)
    wanted = await _by_key(kafka, source, time_header=False)

    flat = await _replayed(kafka, folder / "flat", source, target, "--max")
    say(f"flat out: {flat['per_second']:,.0f} a second")
    arrived = await _by_key(kafka, target, time_header=True)
    differing = [key for key in wanted.keys() | arrived.keys() if wanted.get(key) != arrived.get(key)]
    missed = [f"{key.decode()}: {wanted.get(key)} was sent, {arrived.get(key)} arrived" for key in differing[:5]]

    at_rate = await _replayed(
        kafka, folder / "paced", source, paced, "--rate", f"{rate:g}", "--limit", f"{int(rate * seconds)}"
    )
    stamps = await _stamps(kafka, paced)
    error = abs((stamps[-1] - stamps[0]) / 1000 * rate / (len(stamps) - 1) - 1)
    offset = [stamp - stamps[0] - 1000 * number / rate for number, stamp in enumerate(stamps)]
    say(f"at a rate: {error:.3%} off")

    ours, theirs = [flat["per_second"]], [await _bare_loop(kafka, source, bare)]
    for number in range(1, rounds):
        again = await _topic(kafka, "again")
        ours.append((await _replayed(kafka, folder / f"flat-{number}", source, again, "--max"))["per_second"])
        theirs.append(await _bare_loop(kafka, source, again))
        await kafka.delete_topic(again)
        say(f"round {number + 1} of {rounds}: {ours[-1]:,.0f} a second, bare {theirs[-1]:,.0f}")
    if error >= _PACING_BOUND:
        missed.append(f"the pace was {error:.2%} off")
    if len(stamps) != int(rate * seconds):
        missed.append(f"{len(stamps)} records at a rate, of {int(rate * seconds)}")
    figures: dict[str, object] = {
        "records": f"{records:,}, of {keys:,} keys, {_PARTITIONS} partitions to {_PARTITIONS}",
        "keys whose records differ": len(differing),
        "records a second flat out, median": f"{statistics.median(ours):,.0f}",
        "a bare loop of aiokafka, median": f"{statistics.median(theirs):,.0f}",
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "all rounds": ", ".join(f"{one:,.0f} / {other:,.0f}" for one, other in zip(ours, theirs, strict=True)),
        "pace": f"{rate:g} a second for {seconds:g} s, {error:.3%} off",
        "off its due time, ms": f"median {statistics.median(offset):.1f}, most {max(map(abs, offset)):.0f}",
        "reported as the most late, seconds": at_rate["lateness_most"],
    }
    return Result(figures, missed)


async def _topic(kafka: KafkaBroker, name: str) -> str:
    topic = f"{name}-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, _PARTITIONS)
    return topic


def _producer(kafka: KafkaBroker) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True, max_batch_size=_BATCH
    )


async def _produce(kafka: KafkaBroker, topic: str, records: int, keys: int) -> None:
    """Append events of keys in turn, each with its number in it and a header."""
    async with _producer(kafka) as producer:
        for number in range(records):
            user_id = f"email|{number * 7919 % keys:024x}"
            event = f'{{"eventType":"contract.1#update","vendorId":"v","userId":"{user_id}","contractId":"c-{number}"}}'
            await producer.send(topic, event.encode(), user_id.encode(), headers=[("trace", b"%d" % number)])


async def _replayed(kafka: KafkaBroker, folder: Path, source: str, target: str, *options: str) -> dict[str, Any]:
    command = ("replay", "--json", "--from", f"topic:{source}", "--to", f"topic:{target}", *options)
    process = ServiceProcess(folder, {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}, command)
    try:
        if await process.exit_code(300):
            raise RuntimeError(f"the replay failed: {process.output()}")
    finally:
        process.kill()
    summary: dict[str, Any] = json.loads(process.stdout.read_text())
    return summary


async def _bare_loop(kafka: KafkaBroker, source: str, target: str) -> float:
    """Copy a topic with aiokafka alone, headers and all, and return how many records a second that made."""
    consumer, count = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"), 0
    async with consumer, _producer(kafka) as producer:
        places = [TopicPartition(source, partition) for partition in range(_PARTITIONS)]
        consumer.assign(places)
        total = sum((await consumer.end_offsets(places)).values())
        began = time.monotonic()
        while count < total:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    stamp = ("replay-timestamp", b"%d" % record.timestamp)
                    await producer.send(target, record.value, record.key, headers=[*record.headers, stamp])
                count += len(records)
        await producer.flush()
        return count / (time.monotonic() - began)


async def _by_key(kafka: KafkaBroker, topic: str, *, time_header: bool) -> dict[bytes, Key]:
    """Return what each key's records were; of a million the digests, not the values, stay in memory."""
    hashes: dict[bytes, Any] = {}
    counts: dict[bytes, int] = {}
    async for record in _records(kafka, topic):
        key = record.key or b""
        headers = dict(record.headers)
        stamp = headers["replay-timestamp"] if time_header else b"%d" % record.timestamp
        hashed = hashes.setdefault(key, hashlib.blake2b(digest_size=16))
        hashed.update(b"\0".join((record.value or b"", headers["trace"], stamp)))
        counts[key] = counts.get(key, 0) + 1
    return {key: Key(counts[key], hashed.hexdigest()) for key, hashed in hashes.items()}


async def _stamps(kafka: KafkaBroker, topic: str) -> list[int]:
    return sorted([record.timestamp async for record in _records(kafka, topic)])


async def _records(kafka: KafkaBroker, topic: str) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with consumer:
        places = [TopicPartition(topic, partition) for partition in range(_PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await replay(
        kafka,
        folder,
        records=args.records,
        keys=args.keys,
        rate=args.rate,
        seconds=args.seconds,
        rounds=args.rounds,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N", help="default: 1000000")
    parser.add_argument("--keys", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--rate", type=float, default=1000.0, metavar="N", help="records a second (default: 1000)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="N", help="at that rate (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="against the bare loop (default: 3)")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
