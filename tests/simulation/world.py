"""One simulated world: cluster, APIs, instances and load of a scenario, run to its end, and what there is to judge."""

import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from consumer.partitioner import partition_of
from consumer.sandbox import Answers, Plan, World
from consumer.sandbox.contacts import fold
from consumer.sandbox.population import ORDINARY
from consumer.settings import Settings, load
from tests.chaos.commits import Observed
from tests.chaos.events import Sent
from tests.chaos.evidence import DeadLetter, Edit, Evidence
from tests.simulation.apis import Apis
from tests.simulation.faulting import Faulting
from tests.simulation.host import EPOCH, Host
from tests.simulation.instance import Process
from tests.simulation.kafka import Cluster, NewRecord
from tests.simulation.scenario import NAMES, Scenario
from tests.simulation.timeline import Timeline
from tests.simulation.trace import LOG_LINES, Trace

TOPIC: Final = "events"
LETTERS: Final = "events.dead-letters"
GROUP: Final = "group"

RESTART: Final = 1.0
"""Seconds until an orchestrator starts a process again that ended by itself."""

PATIENCE: Final = 90.0
"""Virtual seconds after the last fault within which everything must be done."""

_SETTLE: Final = 15.0
"""Virtual seconds that the instances have to stop at the end."""


class Simulation:
    """A world that runs."""

    def __init__(self, scenario: Scenario, *, keep_trace: bool = False) -> None:
        self.scenario: Final = scenario
        self.timeline: Final = Timeline(scenario.seed)
        self.trace: Final = Trace(self.timeline, keep=keep_trace)
        self.cluster: Final = Cluster(
            self.timeline, nodes=scenario.nodes, tell=lambda text: self.trace.tell("kafka", text)
        )
        self.cluster.create_topic(TOPIC, scenario.partitions)
        self.cluster.create_topic(LETTERS, 1)
        self.cluster.on_commit.append(self._committed)
        self._dice = self.timeline.stream("load")
        self.users: Final = World(clock=lambda: self.timeline.now, wall=lambda: EPOCH + self.timeline.now)
        self.users.populate(scenario.users, scenario.seed, kinds=ORDINARY)
        self.apis: Final = Apis(
            self.timeline,
            self.users,
            answers=_answers(self._dice),
            plan=Plan(latency=0.02, jitter=0.08, token_lifetime=self._dice.choice((6.0, 60.0, 86_400.0))),
            skew=self._dice.choice((0.0, 0.0, -30.0, 600.0)),
            tell=self.trace.tell,
        )
        self._settings: Final = load(
            {
                "KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers,
                "KAFKA_TOPIC": TOPIC,
                "KAFKA_DEAD_LETTER_TOPIC": LETTERS,
                "KAFKA_GROUP_ID": GROUP,
                **self.apis.environment,
                **scenario.settings,
            }
        )
        self.running: Final[dict[str, Process]] = {}
        self.findings: Final[list[str]] = []
        self.is_ending = False
        self.processes: Final[list[Process]] = []
        self.sent: list[Sent] = []
        self._observed: list[Observed] = []
        self._letters: list[DeadLetter] = []
        self._edits: list[Edit] = []
        self.drained_after = 0.0
        """Seconds from the last fault until all was committed."""
        self.faulting: Final = Faulting(self)

    @property
    def settings(self) -> Settings:
        """The settings of every instance, but for its name."""
        return self._settings

    def run(self) -> None:
        """Run load and faults, wait until all is done, and stop the instances."""
        LOG_LINES.trace = self.trace
        try:
            self._begin()
            scenario = self.scenario
            self.timeline.run_until(max(scenario.seconds, self.faulting.end))
            # A process that stood still up to now has a moment to notice it.
            self.timeline.run_until(max(self.timeline.now, self.faulting.end) + 1.0)
            quiet = self.timeline.now
            self._trickle(self._ends())
            while (self._missing() or self._is_busy()) and self.timeline.now < quiet + PATIENCE:
                self.timeline.run_until(self.timeline.now + 0.5)
            if missing := self._missing():
                self.findings.append(f"stuck: not done {PATIENCE:g} s after the last fault: {missing}")
            self.drained_after = self.timeline.now - quiet
            self.is_ending = True
            for process in list(self.running.values()):
                process.stop()
            end = self.timeline.now + _SETTLE
            while self.running and self.timeline.now < end:
                self.timeline.run_until(self.timeline.now + 0.1)
        finally:
            LOG_LINES.trace = None

    def close(self) -> None:
        """Give everything back."""
        for process in self.processes:
            process.host.close()
        self.cluster.close()

    # Instances.

    def start(self, name: str) -> None:
        """Start a process under this name, unless there is one."""
        if name in self.running or self.is_ending:
            return
        skew = self.scenario.skew * self.timeline.stream(f"skew {name}").uniform(-1, 1)
        host = Host(self.timeline, name, skew=skew)
        self.trace.tell(name, "starts")
        settings = replace(self._settings, kafka=replace(self._settings.kafka, client_id=name))
        process = Process(host, settings, self.cluster.clients(host), self.apis, self._ended)
        self.running[name] = process
        self.processes.append(process)

    def kill(self, name: str) -> None:
        """Kill the process with this name, if there is one."""
        process = self.running.pop(name, None)
        if process is not None:
            self.trace.tell(name, "is killed")
            self.faulting.lost |= process.late_users()
            process.host.crash()
            self._disconnect(process.host)

    def _ended(self, process: Process) -> None:
        name = process.host.name
        self.trace.tell(name, f"ends: {process.failure or 'in order'}")
        self._disconnect(process.host)
        if self.running.get(name) is process:
            del self.running[name]
        if process.unexpected:
            self.findings.append(f"{name} ended at {self.timeline.now:.3f}: {process.failure}")
        if not process.is_stopping:
            self.timeline.after(RESTART, lambda: self.start(name))

    def _disconnect(self, host: Host) -> None:
        """Close what the operating system closes when a process ends."""
        for wire in self.cluster.network.wires(host=host):
            wire.close()

    # Load.

    def _begin(self) -> None:
        scenario, dice = self.scenario, self._dice
        users = self.users.user_ids()
        for name in NAMES[: scenario.instances]:
            self.timeline.at(dice.uniform(0, 2), lambda name=name: self.start(name))  # type: ignore[misc]
        hot = users[: max(3, len(users) // 8)]
        for _ in range(scenario.events):
            at = dice.uniform(0, scenario.seconds)
            user = dice.choice(hot if dice.random() < 0.2 else users)
            if user in self.poisoned:  # each of their events takes all attempts
                continue
            for number in range(dice.choice((1, 1, 1, 3))):
                self.timeline.at(at + number * 0.05, lambda user=user: self._change(user))  # type: ignore[misc]
            if dice.random() < 0.15:
                self.timeline.at(dice.uniform(0, scenario.seconds), lambda: self._edit(dice.choice(users)))
        for user in self.poisoned:
            self.timeline.at(dice.uniform(0, scenario.seconds), lambda user=user: self._change(user))  # type: ignore[misc]
        self.faulting.begin()

    def _trickle(self, ends: dict[int, int]) -> None:
        """Change users now and then until all is committed up to these ends.

        A user that fails alone is given up only when the same call succeeds for others.
        """
        if self.poisoned and self._missing(ends) and not self.is_ending:
            self._change(self._dice.choice([it for it in self.users.user_ids() if it not in self.poisoned]))
            self.timeline.after(1.0, lambda: self._trickle(ends))

    def _change(self, user_id: str) -> None:
        version = self.users.change(user_id)
        value = {
            "eventType": "contract.1#update",
            "vendorId": "simulated",
            "userId": user_id,
            "contractId": f"c-{version}",
            "occured_at": self.users.now(),
        }
        key = user_id.encode()
        partition = partition_of(key, list(range(self.scenario.partitions)), [])
        offset = self.cluster.write(TOPIC, partition, [NewRecord(key, msgspec.json.encode(value))])
        self.sent.append(Sent(user_id, version, self.timeline.now, partition, offset))
        self.trace.tell("world", f"{user_id} is at version {version}: {partition}:{offset}")

    def _edit(self, user_id: str) -> None:
        address = self.address(user_id)
        contact = self.users.contact(address)
        if contact is not None:
            edit = Edit(address, f"manual-{len(self._edits)}", self.timeline.now)
            self.users.edit_contact(address, tags=[*contact.tags, edit.tag])
            self._edits.append(edit)
            self.trace.tell("world", f"{address} gets the tag {edit.tag}")

    def address(self, user_id: str) -> str:
        """Return the address of the user's contact, in lower case."""
        user = self.users.user(user_id)
        assert user is not None
        return fold(user.profile["email"])

    # Evidence.

    @property
    def poisoned(self) -> dict[str, str]:
        """Users that always fail, and the reason of the dead letter that each must end in."""
        return self.faulting.poisoned

    def _ends(self) -> dict[int, int]:
        """Return by partition the offset after the last record, requests of the service included."""
        ends = {number: self.cluster.log(TOPIC, number).end for number in range(self.scenario.partitions)}
        return {number: end for number, end in ends.items() if end}

    def _is_busy(self) -> bool:
        """Return whether an instance stands still, or has still to ask for a sync of whom it wrote to too late."""
        return any(process.host.frozen or process.late_users() for process in self.running.values())

    def _missing(self, ends: dict[int, int] | None = None) -> dict[int, tuple[int, int]]:
        """Return the partitions that are not committed up to these ends, or the last events: both offsets."""
        commits = self.cluster.committed(GROUP)
        found = {}
        for partition, end in (self._ends() if ends is None else ends).items():
            commit = commits.get((TOPIC, partition))
            if commit is None or commit.offset < end:
                found[partition] = (commit.offset if commit else 0, end)
        return found

    def evidence(self) -> Evidence:
        """Return what the world is judged by."""
        users = {sent.user_id for sent in self.sent}
        contacts = {user_id: self.users.contact(self.address(user_id)) for user_id in users}
        return Evidence(
            sent=self.sent,
            addresses={user_id: self.address(user_id) for user_id in self.users.user_ids()},
            final={user_id: contact.user_version if contact else None for user_id, contact in contacts.items()},
            log=self.apis.sandbox.log,
            observed=self._observed,
            letters=self._letters,
            edits=self._edits,
            lost=self.faulting.lost,
        )

    def _committed(self, group: str, member: str, generation: int, offsets: Any) -> None:
        now = self.timeline.now
        self._see_letters()
        for (_, partition), commit in offsets.items():
            self._observed.append(Observed(now, partition, commit.offset, commit.metadata))
        told = " ".join(f"{partition}:{commit.offset}" for (_, partition), commit in offsets.items())
        self.trace.tell("kafka", f"{group} {generation} {member} commits {told}")

    def _see_letters(self) -> None:
        log = self.cluster.log(LETTERS, 0)
        if log.end <= len(self._letters):
            return
        for record in log.records()[len(self._letters) :]:
            headers = {
                name.removeprefix("dead-letter-"): (value or b"").decode(errors="replace")
                for name, value in record.headers
            }
            self._letters.append(
                DeadLetter(
                    user_id=(record.key or b"").decode(errors="replace"),
                    partition=int(headers["partition"]),
                    offset=int(headers["offset"]),
                    reason=headers["reason"],
                    at=self.timeline.now,
                )
            )


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a world; a right one has no findings."""

    scenario: Scenario
    findings: tuple[str, ...]
    hash: str
    steps: int
    events: int
    requests: int
    drained_after: float
    trace: Sequence[str]


def _answers(dice: random.Random) -> Answers:
    """Draw one answer to each unknown of the APIs that a sync meets."""
    names = ("custom", "existing", "values", "empty", "status", "sesamy_lists", "throttle", "sesamy_throttle", "errors")
    choices = Answers.choices()
    return Answers.of(f"{name}={dice.choice(choices[name])}" for name in names)


structlog.configure(processors=[LOG_LINES], cache_logger_on_first_use=False)
