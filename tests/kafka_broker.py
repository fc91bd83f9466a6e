"""A real Apache Kafka for tests, chaos runs and benchmarks: one node, started from jars that Maven fetches once."""

import fcntl
import hashlib
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from consumer.loadtest.processes import Child
from tests.kafka_client import KafkaClient

_HOME = Path(__file__).parents[1] / "deploy" / "kafka"
_JARS = _HOME / "target" / "dependency"
_STAMP = _HOME / "target" / "fetched"
_MINIMUM_JAVA = 17
_CLUSTER = "c2VzYW15LW1haWxtb2pvIQ"  # any 16 bytes as base64url; a random one may begin with "-" and read as an option
_START_TIMEOUT = 60.0
_TAIL = 30

_PROPERTIES = {
    "controller.listener.names": "CONTROLLER",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",  # after a kill the same broker is let in again only when this has passed
    "auto.create.topics.enable": "false",  # a missing topic must look missing
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),  # the default takes 128 MiB of the heap
}


def unavailable() -> str | None:
    """Say what this machine lacks for a broker, in one sentence; None when nothing."""
    version = _java_version()
    if version is None:
        return f"Java {_MINIMUM_JAVA} or newer is needed, and there is no `java` (set JAVA_HOME or PATH)."
    if version < _MINIMUM_JAVA:
        return f"Java {_MINIMUM_JAVA} or newer is needed, and `{_java()}` is Java {version}."
    if not _fetched() and shutil.which("mvn") is None:
        return "Maven is needed to fetch Kafka once, and there is no `mvn` in PATH."
    return None


def fetch() -> None:
    """Have Maven put the broker's jars (43 MB) in place, unless they are there; several callers may do so at once."""
    _STAMP.parent.mkdir(parents=True, exist_ok=True)
    with _STAMP.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _fetched():
            return
        shutil.rmtree(_JARS, ignore_errors=True)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        result = subprocess.run(
            command, cwd=_HOME, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} failed in {_HOME}:\n{_tail(result.stdout + result.stderr)}")
        _STAMP.write_text(_wanted())


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nothing listens."""
    # Below the range that outgoing connections take, so that nobody sits on the port between a kill and a restart.
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class KafkaBroker(KafkaClient):
    """One broker on free loopback ports with its data in a temporary folder, for `with` or `start` … `stop`.

    Its methods block; in a coroutine use `await asyncio.to_thread(kafka.restart)`.
    """

    def __init__(
        self,
        properties: Mapping[str, str] | None = None,
        *,
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, str] | None = None,
        scram: Sequence[str] = (),
        joins: "KafkaBroker | None" = None,
    ) -> None:
        """Prepare a broker.

        Args:
            properties: go over the defaults.
            listeners: by name the security protocol of each listener beside the usual plain one; see `address`.
            advertised: by name the address that a listener tells its clients instead of its own, such as a relay's.
            scram: users that exist from the start, as `StorageTool format --add-scram` takes them.
            joins: the first node of the cluster in which this is the second one, a broker only.
        """
        self._names = {"PLAINTEXT": "PLAINTEXT", **(listeners or {})}
        self._advertised = dict(advertised or {})
        self._properties = dict(properties or {})
        self._joins = joins
        self._controller: str = joins._controller if joins else f"127.0.0.1:{free_ports(1)[0]}"
        self._addresses = self._choose_addresses()
        self._scram = scram
        super().__init__(self.address("PLAINTEXT"))
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        self._config = self._folder / "kraft.properties"
        self.log = self._folder / "broker.log"
        self._process: Child | None = None
        self._configure()

    @property
    def pid(self) -> int:
        return self._running().pid

    def address(self, listener: str) -> str:
        """Return host and port of a listener."""
        return self._addresses[listener]

    def advertised(self, listener: str) -> str:
        """Return the host and port that clients of a listener are told."""
        return self._advertised.get(listener, self._addresses[listener])

    def start(self) -> None:
        """Start on the data that is there and return when the broker serves requests."""
        fetch()
        if not (self._folder / "data").exists():
            self._format()
        begin = self.log.stat().st_size if self.log.exists() else 0
        command = [*_java_command("-Xmx512m", "-XX:+UseSerialGC"), "kafka.Kafka", str(self._config)]
        self._process = Child(command, output=self.log)
        deadline = time.monotonic() + _START_TIMEOUT
        while b"Kafka Server started" not in self.log.read_bytes()[begin:]:
            if self._process.returncode is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Kafka did not start; the end of its log:\n{_tail(self.log.read_text())}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL; the data stay for `restart`."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Start again on the same ports and data, after a `kill` or instead of one."""
        self.kill()
        self.start()

    def move(self) -> None:
        """Serve at other addresses from the next `start` on, with the data that is there."""
        self._addresses = self._choose_addresses()
        self.bootstrap = self.address("PLAINTEXT")
        self._configure()

    def damage(self, topic: str, partition: int, content: bytes) -> None:
        """Change a byte of this content where it lies on the broker's disk, as a failing disk might."""
        (segment,) = (self._folder / "data" / f"{topic}-{partition}").glob("*.log")
        with segment.open("r+b") as file:
            at = file.read().index(content)
            file.seek(at)
            file.write(bytes([content[0] ^ 1]))

    def reconfigure(self, properties: Mapping[str, str]) -> None:
        """Serve with these properties as well from the next `start` on."""
        self._properties |= properties
        self._configure()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers."""
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()

    def stop(self) -> None:
        """End the broker and delete its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _choose_addresses(self) -> dict[str, str]:
        ports = free_ports(len(self._names))
        return {name: f"127.0.0.1:{port}" for name, port in zip(self._names, ports, strict=True)}

    def _configure(self) -> None:
        served = [f"{name}://{address}" for name, address in self._addresses.items()]
        told = [f"{name}://{address}" for name, address in {**self._addresses, **self._advertised}.items()]
        protocols = {"CONTROLLER": "PLAINTEXT", **self._names}
        if self._joins is None:
            served.append(f"CONTROLLER://{self._controller}")
            role = {"process.roles": "broker,controller", "node.id": "1"}
        else:
            role = {"process.roles": "broker", "node.id": "2"}
        settings = {
            **_PROPERTIES,
            **role,
            "controller.quorum.voters": f"1@{self._controller}",
            "listeners": ",".join(served),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": ",".join(f"{name}:{way}" for name, way in protocols.items()),
            "log.dirs": str(self._folder / "data"),
            **self._properties,
        }
        self._config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _running(self) -> Child:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process

    def _format(self) -> None:
        command = [*_java_command(), "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._config)]
        for user in self._scram:
            command += ["--add-scram", user]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"Kafka's storage could not be formatted:\n{_tail(result.stdout + result.stderr)}")


def _wanted() -> str:
    return hashlib.sha256((_HOME / "pom.xml").read_bytes()).hexdigest()


def _fetched() -> bool:
    return _STAMP.exists() and _STAMP.read_text() == _wanted()


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else "java"


def _java_version() -> int | None:
    try:
        result = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', result.stderr)
    return int(match[1]) if match else None


def _java_command(*options: str) -> list[str]:
    # C1 alone: a broker that lives for minutes starts sooner without the optimising compiler.
    return [_java(), "-XX:TieredStopAtLevel=1", *options, "-cp", f"{_JARS}/*"]


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL:])
