"""One deployment on a real broker and the fakes: a topic, a group, and the processes that a test starts on it."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from consumer.sandbox import Record, Rule, Sandbox, User
from tests.integration.oracle import View, address
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.kafka_client import Record as KafkaRecord
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

VENDOR = "vendor_123"
EVENT_TYPES = (
    "userVendor.1#new",
    "userVendor.1#update",
    "contract.1#purchased",
    "contract.1#update",
    "contract#cancelRequest",
    "checkout.1#confirm",
    "entitlement.1#new",
    "entitlement.1#update",
)
SETTINGS = {
    "KAFKA_SESSION_TIMEOUT": "8",
    "SESAMY_REQUESTS_PER_MINUTE": "1000000",
    "SESAMY_BURST": "1000",
    "MAILMOJO_REQUESTS_PER_SECOND": "10000",
    "MAILMOJO_BURST": "1000",
    "SYNC_LINGER": "0.1",
    "SYNC_RETRY_BASE": "0.1",
    "SYNC_RETRY_CAP": "1",
    "SHUTDOWN_TIMEOUT": "8",
}
"""Quick, and with quotas that no test waits for unless it is about them."""

_WHOLE_ADDRESS = re.compile(r"[^\s*\"'](?:@|%40)[a-z0-9-]+\.[a-z]", re.IGNORECASE)  # a masked one is a***@x.no


def event(
    user_id: str, kind: str = "contract.1#update", *, vendor: str = VENDOR, partition: int | None = None, **more: Any
) -> Message:
    """Return an event as Sesamy sends it, keyed by its user."""
    value = {"eventType": kind, "vendorId": vendor, "userId": user_id, "occured_at": "2025-11-10T12:00:00Z"} | more
    return Message(user_id.encode(), json.dumps(value).encode(), partition=partition)


def headers(record: KafkaRecord) -> dict[str, str]:
    """Return the headers that a dead letter has for itself."""
    return {name: value.decode() for name, value in record.headers if name.startswith("dead-letter-")}


class Stage:
    """What a test sees and does from outside. The world, the faults and the log are those of `sandbox`."""

    def __init__(self, kafka: KafkaBroker, topic: str, sandbox: Sandbox, start: Callable[..., ServiceProcess]) -> None:
        self.kafka, self.topic, self.sandbox = kafka, topic, sandbox
        self.world, self.log = sandbox.world, sandbox.log
        self.group = f"group-of-{topic}"
        self.processes: list[ServiceProcess] = []
        self._start = start

    @property
    def settings(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_ID": self.group,
            **SETTINGS,
            **self.sandbox.environment,
        }

    def start(self, *command: str, **settings: str) -> ServiceProcess:
        """Start `run`, or another command, on this deployment."""
        process = self._start(*command, **{**self.settings, **settings})
        self.processes.append(process)
        return process

    async def service(self, **settings: str) -> ServiceProcess:
        """Start the service and wait until it is ready."""
        process = self.start(**settings)
        await process.ready()
        return process

    async def finish(self, *command: str, settings: Mapping[str, str] | None = None) -> ServiceProcess:
        """Run a command to its end."""
        process = self.start(*command, **(settings or {}))
        await process.exit_code()
        return process

    def users(self, count: int, prefix: str = "email|user", **more: Any) -> list[str]:
        """Add ordinary users with an active subscription, each with an address of its own."""
        ids = [f"{prefix}-{number:04}" for number in range(count)]
        for number, user_id in enumerate(ids):
            profile = {"email": f"{prefix.partition('|')[2]}.{number:04}@example.no", "firstName": "Kari"}
            contract = {"id": f"contract_{number}", "status": "ACTIVE", "isActive": True, "issuesRemaining": 1}
            kind = {"contractDuration": "RECURRING", "nextBillAt": "2026-02-01T00:00:00Z"}
            self.world.add_user(user_id, **({"profile": profile, "contracts": [contract | kind]} | more))
        return ids

    def user(self, user_id: str) -> User:
        user = self.world.user(user_id)
        assert user is not None, user_id
        return user

    def contact(self, user_id: str) -> View | None:
        return View.of(self.world.contact(address(self.user(user_id))))

    def shown_version(self, user_id: str) -> int | None:
        """Return the version of the user that the contact shows."""
        contact = self.world.contact(address(self.user(user_id)))
        return contact.user_version if contact else None

    def stale(self, user_ids: Iterable[str]) -> dict[str, tuple[int | None, int]]:
        """Return the users whose contact does not show their last version, with both versions."""
        return {
            user_id: (shown, wanted)
            for user_id in user_ids
            if (shown := self.shown_version(user_id)) != (wanted := self.user(user_id).version)
        }

    def fail(self, **rule: Any) -> None:
        """Let calls fail from now on, as `consumer.sandbox.Rule` says."""
        self.sandbox.faults.add(Rule(**rule))

    def heal(self) -> None:
        self.sandbox.faults.clear()

    async def send(self, *messages: Message) -> list[tuple[int, int]]:
        """Append records and return the partition and offset of each."""
        return [(place.partition, place.offset) for place in await self.kafka.produce(self.topic, messages)]

    async def committed(self, group: str | None = None) -> dict[int, int]:
        commits = await self.kafka.committed(group or self.group, self.topic)
        return {partition: commit.offset for partition, commit in commits.items()}

    async def all_committed(self, within: float = 80, group: str | None = None) -> None:
        """Wait until the group's commits reach the end of every partition that holds records."""
        ends = {partition: end for partition, end in (await self.kafka.end_offsets(self.topic)).items() if end}

        async def reached() -> bool:
            try:
                commits = await self.committed(group)
            except KafkaError:
                return False
            return all(commits.get(partition, 0) >= end for partition, end in ends.items())

        await wait_until(reached, within, what=f"the commits reach {ends}")

    async def dead_letters(self) -> list[KafkaRecord]:
        return await self.kafka.read_all(f"{self.topic}.dead-letters")

    def requests_since(self, number: int, *operations: str) -> list[Record]:
        return [record for record in self.log.since(number) if record.operation in operations]

    def writes_since(self, number: int) -> list[Record]:
        """Return the requests since that were meant to change something at Mailmojo."""
        return [record for record in self.log.since(number) if record.api == "mailmojo" and record.method != "GET"]

    async def assert_sentinels(self, service: ServiceProcess) -> None:
        """The service itself saw no breach of P1 and P2."""
        for name in ("order_violations_total", "commit_violations_total"):
            assert await service.metric(name) == 0, name

    def assert_clean(self) -> None:
        """No request broke a rule of the references, and nothing was printed that must not be (P2, P3, P8)."""
        assert list(self.log.violations) == []
        assert self.log.damaged() == []
        assert self.log.overlapping_writes() == []
        assert self.log.backward_writes() == []
        for process in self.processes:
            self.assert_discreet(process.output())

    def assert_discreet(self, text: str) -> None:
        """No whole e-mail address and no secret stands in the text."""
        found = _WHOLE_ADDRESS.search(text)
        assert found is None, text[max(0, found.start() - 200) : found.end() + 40]
        secrets = [self.sandbox.client_secret, self.sandbox.api_token, *self.sandbox.sesamy._tokens]
        assert [secret for secret in secrets if secret in text] == []


NewStage = Callable[[int], Awaitable[Stage]]


async def stop(process: ServiceProcess, within: float = 40) -> None:
    """Stop a service as an operator does; it must end well."""
    process.terminate()
    assert await process.exit_code(within) == 0, process.output()[-3000:]


def peak_memory(process: ServiceProcess) -> float:
    """Return the most memory that the process ever had, in MiB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]


async def gathered(service: ServiceProcess) -> str:
    """Return everything that the admin port says."""
    pages = await asyncio.gather(*(service.get(path) for path in ("/metrics", "/status", "/readyz", "/livez")))
    return "\n".join(body for _, body in pages)
