"""`python -m tests.chaos.ingest`: webhooks as fast as they are taken, then at a rate, then while the broker dies.

One request in twenty comes without the secret, or with a wrong one. What was answered with 202 must be in the topic at
the place that the answer names, and nothing of what came without the secret may be there at all.
"""

import argparse
import asyncio
import itertools
import json
import re
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from tests.chaos.experiment import Result, main, say
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

_SECRET = "open sesame"
_PARTITIONS = 12
_USERS = 5000
_INTRUDERS = 20
"""One request in so many has no secret or a wrong one."""


class Answer(Struct, frozen=True, gc=False):
    """What a request was answered. Times are monotonic seconds; `due` is when it was meant to be sent."""

    number: int
    status: int
    place: tuple[int, int] | None
    due: float
    end: float


class Load:
    """Requests over connections that stay open, and their answers."""

    def __init__(self, port: int) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._numbers = itertools.count()

    async def flat_out(self, connections: int, until: asyncio.Event) -> None:
        """Send the next request on each connection once the last one is answered."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._one_after_the_other(until))

    async def at_rate(self, rate: float, seconds: float, connections: int) -> None:
        """Send so many a second, each at its own time: one that has to wait for a connection counts as late."""
        began = time.monotonic()
        dues = (began + number / rate for number in range(int(rate * seconds)))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._each_when_due(dues))

    async def _one_after_the_other(self, until: asyncio.Event) -> None:
        connection = await asyncio.open_connection("127.0.0.1", self._port)
        while not until.is_set():
            await self._send(connection, time.monotonic())
        connection[1].close()

    async def _each_when_due(self, dues: Iterator[float]) -> None:
        connection = await asyncio.open_connection("127.0.0.1", self._port)
        for due in dues:
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await self._send(connection, due)
        connection[1].close()

    async def _send(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], due: float) -> None:
        reader, writer = connection
        number = next(self._numbers)
        writer.write(_request(number))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None, head
        body = json.loads(await reader.readexactly(int(length[1])))
        status = int(head.split(b" ", 2)[1])
        place = (body["partition"], body["offset"]) if status == 202 else None
        self.answers.append(Answer(number, status, place, due, time.monotonic()))


async def ingest(
    kafka: KafkaBroker, folder: Path, *, connections: int, seconds: float, rate: float, away: float
) -> Result:
    """Load the endpoint for so long each time; the broker is away for `away` seconds."""
    topic = f"ingest-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, _PARTITIONS)
    async with _endpoint(kafka, folder, topic) as (process, load):
        throughput = {}
        for count in (16, connections):
            done, before = asyncio.Event(), len(load.answers)
            asyncio.get_running_loop().call_later(seconds, done.set)
            await load.flat_out(count, done)
            throughput[count] = _latencies(load.answers[before:], seconds)
            say(f"{count} connections: {throughput[count]}")
        before = len(load.answers)
        await load.at_rate(rate, seconds, 64)
        paced = _latencies(load.answers[before:], seconds)
        before = len(load.answers)
        back, first = await _while_the_broker_dies(kafka, load, connections, away)
        outage = Counter(answer.status for answer in load.answers[before:])
        say(f"the broker was away: {dict(outage)}")
        await process.ready()
        memory = _peak_memory(process)
        process.terminate()
        code = await process.exit_code()
        output = process.output()
    missed = await _lost(kafka, topic, load.answers)
    statuses = Counter(answer.status for answer in load.answers)
    if code:
        missed.append(f"it ended with {code}")
    if set(statuses) - {202, 401, 503}:
        missed.append(f"answers of other kinds: {dict(statuses)}")
    if _SECRET in output or "Traceback" in output:
        missed.append("its output holds the secret, or a traceback")
    figures: dict[str, object] = {
        **{f"{count} connections, flat out": found for count, found in throughput.items()},
        f"{rate:g} a second over 64 connections": paced,
        "acknowledged": f"{statuses[202]:,}, of them {outage[202]:,} around the outage",
        "answered with 503 in the outage": outage[503],
        "acknowledged and not in the topic": len(missed),
        "refused for the secret": statuses[401],
        "first 202 after the restart was begun, seconds": first - back,
        "most memory, MiB": memory,
    }
    return Result(figures, missed)


@asynccontextmanager
async def _endpoint(kafka: KafkaBroker, folder: Path, topic: str) -> AsyncIterator[tuple[ServiceProcess, Load]]:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_TOPIC": topic}
    settings |= {"INGEST_PORT": "0", "INGEST_SECRET": _SECRET}
    process = ServiceProcess(folder / "ingest", settings, ("ingest",))
    try:
        await process.ready()
        yield process, Load(int((await process.logged("ingest.listening"))[0]["port"]))
    finally:
        process.kill()


async def _while_the_broker_dies(kafka: KafkaBroker, load: Load, connections: int, away: float) -> tuple[float, float]:
    """Return when the broker was started again, and when the next event was acknowledged."""
    done = asyncio.Event()
    sending = asyncio.create_task(load.flat_out(connections, done))
    try:
        await asyncio.sleep(2)
        await asyncio.to_thread(kafka.kill)
        await asyncio.sleep(away)
        back = time.monotonic()
        await asyncio.to_thread(kafka.start)

        def first() -> float | None:
            return next((one.end for one in load.answers[::-1][:1000] if one.status == 202 and one.end > back), None)

        await wait_until(first, 60, what="an event is acknowledged after the restart")
        at = min(one.end for one in load.answers if one.status == 202 and one.end > back)
        await asyncio.sleep(3)
    finally:
        done.set()
        await sending
    return back, at


def _request(number: int) -> bytes:
    event = f'{{"eventType":"contract.1#update","vendorId":"v","userId":"{_user(number)}","contractId":"c-{number}"}}'
    secret = "X-Webhook-Secret: " + (_SECRET if number % _INTRUDERS else "guessed") + "\r\n"
    if number % (2 * _INTRUDERS) == 0:
        secret = ""
    head = f"POST /events HTTP/1.1\r\nHost: x\r\n{secret}Content-Type: application/json\r\nContent-Length: {len(event)}"
    return f"{head}\r\n\r\n{event}".encode()


def _user(number: int) -> str:
    return f"email|{number % _USERS:024x}"


async def _lost(kafka: KafkaBroker, topic: str, answers: list[Answer]) -> list[str]:
    """Return what is not in the topic as it was acknowledged, and what is there without the secret."""
    stored = {(record.partition, record.offset): record for record in await kafka.read_all(topic)}
    missed = []
    for answer in answers:
        if answer.place is None:
            continue
        record = stored.get(answer.place)
        wanted = (_user(answer.number).encode(), _request(answer.number).partition(b"\r\n\r\n")[2])
        # An idempotent producer that is told of a duplicate does not learn the offset.
        if answer.place[1] >= 0 and (record is None or (record.key, record.value) != wanted):
            missed.append(f"event {answer.number} is not at {answer.place}")
    numbers = {int((record.value or b"").rpartition(b"c-")[2][:-2]) for record in stored.values()}
    unplaced = [one.number for one in answers if one.place and one.place[1] < 0 and one.number not in numbers]
    missed += [f"event {number} is nowhere" for number in unplaced]
    missed += [f"event {number} came without the secret" for number in numbers if not number % _INTRUDERS]
    return missed


def _latencies(answers: list[Answer], seconds: float) -> str:
    waits = sorted(1000 * (one.end - one.due) for one in answers if one.status == 202)
    median, most = statistics.median(waits), waits[int(len(waits) * 0.99)]
    return f"{len(waits) / seconds:,.0f} events a second, median {median:.1f} ms, 99th percentile {most:.0f} ms"


def _peak_memory(process: ServiceProcess) -> int:
    found: Mapping[str, str] = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
    )
    return int(found["VmHWM"].split()[0]) // 1024


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await ingest(
        kafka, folder, connections=args.connections, seconds=args.seconds, rate=args.rate, away=args.away
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.ingest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--connections", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="N", help="of each load (default: 15)")
    parser.add_argument("--rate", type=float, default=1000.0, metavar="N", help="events a second (default: 1000)")
    parser.add_argument("--away", type=float, default=30.0, metavar="SECONDS", help="without a broker (default: 30)")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
