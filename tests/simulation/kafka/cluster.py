"""The simulated Kafka cluster: its topics, groups and nodes, and what a test does to them.

The clients are aiokafka's own; only brokers and connections are simulated. The package's docstring names its limits.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tests.simulation.host import Host
from tests.simulation.kafka.clients import Clients
from tests.simulation.kafka.faults import Fault, Faults
from tests.simulation.kafka.groups import Commit, Group, Place
from tests.simulation.kafka.log import NewRecord, PartitionLog, StoredRecord
from tests.simulation.kafka.network import Network
from tests.simulation.kafka.node import SimulatedNode
from tests.simulation.kafka.topics import NO_LEADER, UNKNOWN_TOPIC_OR_PARTITION, Partition, Topic
from tests.simulation.timeline import Timeline

_EPOCH_MS: Final = 1_762_776_000_000
_BROKER_SESSION: Final = 9.0
"""Seconds until a node that is frozen is fenced: `broker.session.timeout.ms`."""

Committed = Callable[[str, str, int, Mapping[Place, Commit]], None]
"""Told of a commit that was accepted: group, member, generation, offsets."""


class Cluster:
    """Some nodes that share topics and groups."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        nodes: int = 1,
        latency: tuple[float, float] = (0.0002, 0.002),
        initial_rebalance_delay: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin without topics.

        Args:
            timeline: orders everything.
            nodes: how many there are; they are numbered from 1.
            latency: shortest and longest time of a message, in seconds.
            initial_rebalance_delay: seconds that an empty group waits for more members.
            tell: told of what happens, in words, for a trace.
        """
        self.timeline: Final = timeline
        self.tell = tell
        self.topics: dict[str, Topic] = {}
        self.faults: Final = Faults()
        self.network: Final = Network(timeline, latency=latency)
        self.nodes: Final = {number: SimulatedNode(self, number) for number in range(1, nodes + 1)}
        self.on_commit: list[Committed] = []
        self._initial_delay = initial_rebalance_delay
        self._groups: dict[str, Group] = {}
        self._coordinators: dict[str, int] = {}
        self._loading: dict[str, float] = {}
        self._producers = 0
        self._clients: list[Clients] = []

    @property
    def bootstrap_servers(self) -> str:
        """What a client connects to first."""
        return ",".join(f"{node.host}:{node.port}" for node in self.nodes.values())

    def clients(self, host: Host) -> Clients:
        """Return what makes the clients of a host."""
        clients = Clients(host, self.network, {(node.host, node.port): node for node in self.nodes.values()})
        self._clients.append(clients)
        return clients

    def close(self) -> None:
        """End the world: the clients that are left belong to loops that go no further."""
        for clients in self._clients:
            clients.close()

    # Topics and records.

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        replication: int | None = None,
    ) -> None:
        """Create a topic whose partitions are led by the nodes in turn, and kept by so many of them, or all."""
        self.topics[name] = Topic(name, config or {}, replication or len(self.nodes))
        self.add_partitions(name, partitions)

    def add_partitions(self, name: str, total: int) -> None:
        """Have the topic have so many partitions."""
        topic, numbers = self.topics[name], list(self.nodes)
        for number in range(len(topic.partitions), total):
            leader = numbers[number % len(numbers)]
            replicas = [leader, *(other for other in numbers if other != leader)]
            topic.partitions.append(Partition(leader, replicas[: topic.replication]))
        self.tell(f"topic {name} has {total} partitions")

    def delete_topic(self, name: str) -> None:
        """Delete a topic, and the groups' commits in it."""
        topic = self.topics.pop(name)
        for group in self._groups.values():
            for place in [place for place in group.commits if place[0] == name]:
                del group.commits[place]
        for partition in topic.partitions:
            partition.log.notify()
        self.tell(f"topic {name} is deleted")

    def recreate_topic(self, name: str, *, keep_commits: bool = False) -> None:
        """Delete the topic and create it again, empty; `keep_commits` as where the offsets come from a mirror."""
        topic = self.topics[name]
        kept = {group: dict(group.commits) for group in self._groups.values()} if keep_commits else {}
        self.delete_topic(name)
        self.create_topic(name, len(topic.partitions), topic.config, replication=topic.replication)
        for group, commits in kept.items():
            group.commits |= commits

    def partition(self, topic: str, number: int) -> Partition | None:
        """Return a partition, or None."""
        found = self.topics.get(topic)
        return found.partitions[number] if found is not None and number < len(found.partitions) else None

    def log(self, topic: str, number: int) -> PartitionLog:
        """Return a partition's log: to compact it, to remove its beginning, to damage it."""
        return self.topics[topic].partitions[number].log

    def now_ms(self) -> int:
        """Return the time of records that are written now."""
        return _EPOCH_MS + int(self.timeline.now * 1000)

    def write(self, topic: str, number: int, records: Iterable[NewRecord]) -> int:
        """Append records from outside as one batch, and return the first one's offset."""
        return self.log(topic, number).write(records, self.now_ms())

    def begin(self) -> int:
        """Return the id of a producer for `PartitionLog.write` and `end_transaction`: one transaction."""
        self._producers += 1
        return self._producers

    def records(self, topic: str) -> dict[int, list[StoredRecord]]:
        """Return by partition what a reader of committed records gets."""
        return {number: it.log.records() for number, it in enumerate(self.topics[topic].partitions)}

    def described(self, node_id: int, names: Iterable[str] | None) -> tuple[Any, ...]:
        """Return what a node tells of the cluster: brokers, id, controller, topics."""
        brokers, topics = self.nodes[node_id].stale or self._known(node_id)
        wanted = list(topics) if names is None else list(names)
        found = [topics.get(name, (UNKNOWN_TOPIC_OR_PARTITION, name, False, [])) for name in wanted]
        return brokers, "simulated", brokers[0][0], found

    def _known(self, node_id: int) -> tuple[list[Any], dict[str, Any]]:
        alive = [node for node in self.nodes.values() if (node.up and not node.fenced) or node.node_id == node_id]
        brokers = [(node.node_id, node.host, node.port, None) for node in alive]
        return brokers, {name: topic.described() for name, topic in self.topics.items()}

    def isolate(self, node_id: int, *, is_isolated: bool = True) -> None:
        """Have a node hear of no more changes: its metadata grow old, as a follower's can for minutes."""
        self.nodes[node_id].stale = self._known(node_id) if is_isolated else None

    # Groups.

    def group(self, name: str) -> Group:
        """Return a group; it is there as soon as it is asked for."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(
                name,
                self.timeline,
                initial_delay=self._initial_delay,
                is_frozen=lambda: self.nodes[self.coordinator(name)].frozen,
            )
            group.observe = self._tell
        return group

    def _tell(self, text: str) -> None:
        self.tell(text)

    def commit(self, group: str, member: str, generation: int, offsets: Mapping[Place, Commit]) -> dict[Place, int]:
        """Store commits, and return an error code for each."""
        errors = self.group(group).commit(member, generation, offsets)
        stored = {place: commit for place, commit in offsets.items() if not errors[place]}
        if stored:
            for told in self.on_commit:
                told(group, member, generation, stored)
        return errors

    def committed(self, group: str) -> dict[Place, Commit]:
        """Return the group's commits."""
        return dict(self.group(group).commits)

    def coordinator(self, group: str) -> int:
        """Return the number of the node that coordinates the group."""
        return self._coordinators.setdefault(group, 1 + sum(group.encode()) % len(self.nodes))

    def is_loading(self, group: str) -> bool:
        """Return whether the coordinator does not know the group yet."""
        return self.timeline.now < self._loading.get(group, 0.0)

    def move_coordinator(self, group: str, node_id: int, *, loading: float = 0.0) -> None:
        """Have another node coordinate the group, which takes it `loading` seconds to read."""
        self._coordinators[group] = node_id
        self._loading[group] = self.timeline.now + loading
        self.group(group).moved()
        self.tell(f"group {group} is coordinated by node {node_id}")

    # Nodes.

    def move_leader(self, topic: str, number: int, node_id: int = NO_LEADER) -> None:
        """Have another node lead the partition, or none."""
        partition = self.topics[topic].partitions[number]
        partition.leader = node_id
        if node_id != NO_LEADER:
            partition.last_leader = node_id
        partition.log.notify()
        self.tell(f"{topic}[{number}] is led by {'no node' if node_id == NO_LEADER else f'node {node_id}'}")

    def kill(self, node_id: int, *, fail_over: bool = True) -> None:
        """Stop a node: its connections break, and others take over what it led where there are any."""
        node = self.nodes[node_id]
        node.up = False
        self.tell(f"node {node_id} is down")
        for wire in self.network.wires(node):
            wire.break_()
        self._fail_over(node_id, [other for other, it in self.nodes.items() if it.is_alive] if fail_over else [])

    def _fail_over(self, node_id: int, others: list[int]) -> None:
        for topic in self.topics.values():
            for number, partition in enumerate(topic.partitions):
                if partition.leader == node_id:
                    able = [other for other in others if other in partition.replicas]
                    self.move_leader(topic.name, number, able[number % len(able)] if able else NO_LEADER)
        for group in self._groups if others else ():
            if self.coordinator(group) == node_id:
                self.move_coordinator(group, others[0])

    def restart(self, node_id: int) -> None:
        """Start a node again: it leads what it led last and nobody leads now."""
        node = self.nodes[node_id]
        node.up = True
        self.tell(f"node {node_id} is up")
        self._lead_again(node_id)
        for name, group in self._groups.items():
            if self.coordinator(name) == node_id:
                group.moved()

    def _lead_again(self, node_id: int) -> None:
        for topic in self.topics.values():
            for number, partition in enumerate(topic.partitions):
                if partition.leader == NO_LEADER and partition.last_leader == node_id:
                    self.move_leader(topic.name, number, node_id)

    def freeze(self, node_id: int) -> None:
        """Stop a node's clock: its connections stay open, and nothing answers.

        The others replace it after `broker.session.timeout.ms`, where there are any.
        """
        node = self.nodes[node_id]
        node.frozen = True
        self.tell(f"node {node_id} is frozen")
        node.gives_up = self.timeline.after(_BROKER_SESSION, lambda: self._fence(node))

    def _fence(self, node: SimulatedNode) -> None:
        others = [other for other, it in self.nodes.items() if it.is_alive]
        if node.frozen and others:
            node.fenced = True
            self.tell(f"node {node.node_id} is fenced")
            self._fail_over(node.node_id, others)

    def thaw(self, node_id: int) -> None:
        """Let a frozen node go on: it answers what has waited."""
        node = self.nodes[node_id]
        node.frozen = node.fenced = False
        if node.gives_up is not None:
            node.gives_up.cancel()
        self.tell(f"node {node_id} goes on")
        self._lead_again(node_id)
        for wire in self.network.wires(node):
            wire.healed()

    # The network.

    def cut(self, host: Host, node_id: int | None = None) -> None:
        """Have nothing pass between a host and a node, or all; neither side is told."""
        for path in self._paths(host, node_id):
            path.cut = True
        self.tell(f"{host.name} is cut off from {node_id or 'all nodes'}")

    def heal(self, host: Host, node_id: int | None = None) -> None:
        """Undo `cut` and `refuse`: what was sent meanwhile arrives, as TCP has it."""
        for path in self._paths(host, node_id):
            path.cut = path.refused = False
            for wire in list(path.wires):
                wire.healed()
        self.tell(f"{host.name} reaches {node_id or 'all nodes'} again")

    def forget(self, host: Host, node_id: int | None = None) -> None:
        """Have nothing pass on the connections that are open now, as a gateway that forgot them; new ones work."""
        for path in self._paths(host, node_id):
            for wire in path.wires:
                wire.forget()
        self.tell(f"the connections of {host.name} are forgotten")

    def refuse(self, host: Host, node_id: int | None = None) -> None:
        """Break a host's connections, and refuse new ones."""
        for path in self._paths(host, node_id):
            path.refused = True
            for wire in list(path.wires):
                wire.break_()
        self.tell(f"{host.name} is refused by {node_id or 'all nodes'}")

    def fail(self, fault: Fault) -> None:
        """Have a fault happen to the next calls that it is meant for."""
        self.faults.add(fault)

    def _paths(self, host: Host, node_id: int | None) -> list[Any]:
        return [
            self.network.path(host, node) for node in self.nodes.values() if node_id is None or node.node_id == node_id
        ]
