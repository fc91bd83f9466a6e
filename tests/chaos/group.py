"""The instances of the service: processes that are started, killed, frozen, thawed and asked to leave."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from tests.service_process import ServiceProcess
from tests.waiting import wait_until

_TAIL = 1500


class Ended(Struct, frozen=True):
    """How a process ended that nobody had killed."""

    name: str
    code: int
    output: str


class Group:
    """Named instances of one consumer group; a name is also the Kafka client id, and outlives its processes."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Start processes with these settings and their output in numbered folders below `folder`."""
        self.broker_away = asyncio.Event()
        """Set once the broker was taken away: a process that starts meanwhile may say so and end."""
        self.settings = settings
        self.program = "consumer"
        """The module that instances run."""
        self._folder = folder
        self._running: dict[str, ServiceProcess] = {}
        self._all: list[ServiceProcess] = []
        self.ended: list[Ended] = []

    @property
    def names(self) -> list[str]:
        """The instances that run, frozen ones included."""
        return list(self._running)

    def __getitem__(self, name: str) -> ServiceProcess:
        return self._running[name]

    def start(self, *names: str) -> None:
        """Start a process under each name, unless there is one."""
        for name in names:
            if name not in self._running:
                folder = self._folder / f"{len(self._all):03d}-{name}"
                settings = {**self.settings, "KAFKA_CLIENT_ID": name}
                self._running[name] = ServiceProcess(folder, settings, program=self.program)
                self._all.append(self._running[name])

    def command(self, *command: str, **settings: str) -> ServiceProcess:
        """Start another command of the program beside the instances, with their settings and these."""
        folder = self._folder / f"{len(self._all):03d}-{command[0]}"
        process = ServiceProcess(folder, {**self.settings, **settings}, command)
        self._all.append(process)
        return process

    async def joined(self, *names: str, within: float = 30) -> None:
        """Wait until each of these (all, without a name) was given its part by the group, be it nothing."""
        for name in names or self.names:
            process = self._running[name]
            await process.admin_port(within)  # says why, when the process ended
            await wait_until(lambda name=name: self.has_joined(name), within, what=f"{name} joins the group")  # type: ignore[misc]

    def kill(self, name: str) -> float:
        """SIGKILL, and return the monotonic second right before."""
        at = time.monotonic()
        self._running.pop(name).kill()
        return at

    def freeze(self, name: str) -> ServiceProcess:
        """SIGSTOP, and return the process, to thaw it; that does nothing if it was killed meanwhile."""
        process = self._running[name]
        process.freeze()
        return process

    async def leave(self, name: str, within: float = 30) -> float:
        """SIGTERM, and return the seconds that the process took to end; how it ended is noted."""
        process = self._running.pop(name)
        began = time.monotonic()
        process.terminate()
        await process.exit_code(within)
        self._note(name, process)
        return time.monotonic() - began

    async def keep_alive(self) -> None:
        """Start anew whatever ends by itself, as an orchestrator would, and note it, until cancelled."""
        while True:
            for name, process in list(self._running.items()):
                if process.returncode is not None:
                    del self._running[name]
                    # Without a broker the service cannot start, says so and ends: that is what it should do.
                    if not (self.broker_away.is_set() and not process.events("group.joined")):
                        self._note(name, process)
                    self.start(name)
            await asyncio.sleep(0.5)

    def failures(self) -> list[str]:
        """Return in words which processes ended otherwise than with 0."""
        return [f"{end.name} ended with {end.code}: {end.output}" for end in self.ended if end.code]

    def outputs(self) -> list[str]:
        """Return what each process has printed, those that ended included."""
        return [process.output() for process in self._all]

    def close(self) -> None:
        """Kill what runs."""
        for process in self._all:
            process.kill()

    def has_joined(self, name: str) -> bool:
        """Return whether this instance, as it runs now, has been given its part by the group."""
        process = self._running.get(name)
        return process is not None and bool(process.events("group.joined"))

    def _note(self, name: str, process: ServiceProcess) -> None:
        code = process.returncode
        assert code is not None
        self.ended.append(Ended(name, code, process.output()[-_TAIL:]))
