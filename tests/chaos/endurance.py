"""`python -m tests.chaos.endurance`: an hour of bad surroundings, and memory that stays flat.

Three instances work under tight quotas behind relays that forget idle connections, Kafka's and the APIs'. One of them
logs into a pipe that is never read. Clients that never finish a request sit on every admin port. Users change all the
time. Resident memory is sampled, and in the end the run is judged as every chaos run is.
"""

import argparse
import asyncio
import fcntl
import os
import random
import statistics
import sys
import termios
import time
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp

from consumer.sandbox import Options, Plan, Quota, World
from consumer.sandbox.faults import ApiName
from tests.chaos.experiment import Result, main, say
from tests.chaos.findings import findings
from tests.chaos.group import Group
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker, free_ports
from tests.relay import Relay
from tests.service_process import ServiceProcess

_IDLE_TIMEOUT: Final = 8.0
"""Seconds after which a relay forgets an idle connection: longer than any interval at which a busy client speaks."""

_FORGET_EVERY: Final = 90.0
"""Seconds between the moments at which the relays forget every connection, busy ones included."""

_STALLED: Final = 30
"""Clients that sit on each admin port with half a request."""

_SAMPLE_EVERY: Final = 5.0
_GROWTH: Final = 0.10
"""By how much the median memory of the last quarter may exceed that of the second quarter."""

_QUOTAS: Final[dict[ApiName, Quota]] = {"sesamy": Quota(12.0, 24.0), "mailmojo": Quota(6.0, 6.0)}
_SETTINGS: Final = {
    "SESAMY_REQUESTS_PER_MINUTE": "720",
    "SESAMY_BURST": "24",
    "MAILMOJO_REQUESTS_PER_SECOND": "6",
    "MAILMOJO_BURST": "6",
    "SYNC_LINGER": "1",
}
_RELAY_PORT: Final = free_ports(1)[0]


class UnreadLog(ServiceProcess):
    """An instance whose stderr is a pipe that nothing reads: it is full after a page, 4 KiB."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        os.mkfifo(folder / "stderr")
        self._unread = os.open(folder / "stderr", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._unread, fcntl.F_SETPIPE_SZ, 4096)
        port = free_ports(1)[0]
        super().__init__(folder, {**settings, "ADMIN_PORT": str(port), "LOG_LEVEL": "debug"})
        self._port = port

    @property
    def bytes_unread(self) -> int:
        """How much of its log is in the pipe."""
        count = array("i", [0])
        fcntl.ioctl(self._unread, termios.FIONREAD, count)
        return count[0]

    def output(self) -> str:
        return self.stdout.read_text(errors="replace")

    def kill(self) -> None:
        super().kill()
        if self._unread >= 0:
            os.close(self._unread)
            self._unread = -1


async def endurance(kafka: KafkaBroker, folder: Path, *, seconds: float, rate: float, seed: int = 1) -> Result:
    """Run for so long while `rate` users a second change."""
    world = World()
    world.populate(300, seed, kinds=("recurring",), contacts=("tagged",))
    plan = Plan(latency=0.02, sesamy_quota=_QUOTAS["sesamy"], mailmojo_quota=_QUOTAS["mailmojo"])
    async with (
        open_stage(kafka, folder, world, options=Options(plan=plan)) as stage,
        Relay(kafka.address("RELAYED"), idle_timeout=_IDLE_TIMEOUT, port=_RELAY_PORT) as brokers,
        Relay(stage.sandbox.sesamy_url.removeprefix("http://"), idle_timeout=_IDLE_TIMEOUT) as sesamy,
        Relay(stage.sandbox.mailmojo_url.removeprefix("http://"), idle_timeout=_IDLE_TIMEOUT) as mailmojo,
    ):
        settings = {
            **stage.group.settings,
            **_SETTINGS,
            "KAFKA_BOOTSTRAP_SERVERS": brokers.address,
            "SESAMY_API_URL": f"http://{sesamy.address}",
            "MAILMOJO_API_URL": f"http://{mailmojo.address}",
        }
        group, unread = Group(folder, settings), UnreadLog(folder / "unread", {**settings, "KAFKA_CLIENT_ID": "unread"})
        try:
            group.start("reader-a", "reader-b")
            await group.joined()
            await unread.ready()
            processes = {"unread": unread, "reader-a": group["reader-a"], "reader-b": group["reader-b"]}
            async with _surroundings(processes, [brokers, sesamy, mailmojo]) as memory:
                await _load(stage, seconds, rate, random.Random(seed))
                try:
                    drained = await stage.drained(180)
                except TimeoutError as stuck:
                    return Result({"seconds": seconds}, [f"stuck: {stuck}; {dict(stage.commits.committed)}"])
            dropped, in_pipe = await unread.metric("log_lines_dropped_total"), unread.bytes_unread
            late = [await process.metric("late_writes_total") for process in processes.values()]
            evidence = await stage.evidence()
            ended = {}
            for name, process in processes.items():
                process.terminate()
                ended[name] = await process.exit_code(30)
        finally:
            group.close()
            unread.kill()
    missed = findings(evidence, quotas=_QUOTAS)
    missed += [f"{name} ended with {code}" for name, code in ended.items() if code]
    missed += [f"the memory of {name} grew: {text}" for name, text in _grown(memory).items()]
    if not in_pipe:
        missed.append("the instance whose log is not read has nothing in its pipe")
    figures = {
        "seconds": seconds,
        "events": len(evidence.sent),
        "requests": len(evidence.log.records),
        "Kafka connections forgotten": brokers.forgotten,
        "API connections forgotten": sesamy.forgotten + mailmojo.forgotten,
        "bytes in the pipe that is not read": in_pipe,
        "log lines dropped": int(dropped),
        "late writes": int(sum(late)),
        "drained, seconds after the load": drained,
        "MiB, medians by quarter": {name: [round(it) for it in _quarters(it)] for name, it in memory.items()},
        "MiB, largest": {name: round(max(it)) for name, it in memory.items()},
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _load(stage: Stage, seconds: float, rate: float, dice: random.Random) -> None:
    end, said = time.monotonic() + seconds, time.monotonic()
    users = stage.sandbox.world.user_ids()
    while (now := time.monotonic()) < end:
        await stage.events.change(dice.choice(users))
        if dice.random() < 0.02:
            stage.edit(dice.choice(users))
        if now - said > 60:
            said = now
            say(f"{end - now:.0f} s left")
        await asyncio.sleep(dice.uniform(0, 2) / rate)


@asynccontextmanager
async def _surroundings(
    processes: Mapping[str, ServiceProcess], relays: list[Relay]
) -> AsyncIterator[dict[str, list[float]]]:
    """Keep bad surroundings up and yield the memory of each process in MiB, sampled all the while."""
    memory: dict[str, list[float]] = defaultdict(list)
    ports = [await process.admin_port() for process in processes.values()]
    tasks = [
        asyncio.create_task(_sample(processes, memory)),
        asyncio.create_task(_forget(relays)),
        *(asyncio.create_task(_stall(port)) for port in ports for _ in range(_STALLED)),
    ]
    try:
        yield memory
        assert not any(task.done() for task in tasks), "something of the surroundings ended before the run did"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _sample(processes: Mapping[str, ServiceProcess], memory: dict[str, list[float]]) -> None:
    while True:
        for name, process in processes.items():
            memory[name].append(_resident(process.pid))
            with suppress(aiohttp.ClientError, TimeoutError):  # a probe beside the clients that stall
                await process.get("/metrics", within=2)
        await asyncio.sleep(_SAMPLE_EVERY)


def _resident(pid: int) -> float:
    """Return the memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


async def _forget(relays: list[Relay]) -> None:
    while True:
        for relay in relays:
            await asyncio.sleep(_FORGET_EVERY / len(relays))
            relay.forget()


async def _stall(port: int) -> None:
    """Sit on the port with half a request, again as soon as the server hangs up."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HT")
                while await reader.read(1024):
                    pass
            finally:
                writer.close()
        await asyncio.sleep(1)


def _quarters(samples: list[float]) -> list[float]:
    size = max(1, len(samples) // 4)
    return [statistics.median(samples[at * size : (at + 1) * size or None]) for at in range(4)]


def _grown(memory: Mapping[str, list[float]]) -> dict[str, str]:
    quarters = {name: _quarters(samples) for name, samples in memory.items()}
    return {
        name: f"{found[1]:.0f} MiB in the second quarter, {found[3]:.0f} in the last"
        for name, found in quarters.items()
        if found[3] > found[1] * (1 + _GROWTH)
    }


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await endurance(kafka, folder, seconds=args.seconds, rate=args.rate, seed=args.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.endurance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="default: 3600")
    parser.add_argument("--rate", type=float, default=2.0, help="users that change a second; default: 2")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="who changes, and when")
    return parser


def _broker() -> KafkaBroker:
    return KafkaBroker(listeners={"RELAYED": "PLAINTEXT"}, advertised={"RELAYED": f"127.0.0.1:{_RELAY_PORT}"})


if __name__ == "__main__":
    sys.exit(main(_measure, _parser(), _broker))
