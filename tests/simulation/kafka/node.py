"""A broker: takes requests one at a time per connection, and answers them from the cluster's state."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.kafka.faults import CALLS, Fault
from tests.simulation.kafka.fetches import NOT_LEADER, Fetch
from tests.simulation.kafka.groups import NOT_COORDINATOR, Commit, Join, Joined
from tests.simulation.kafka.network import Wire
from tests.simulation.kafka.refusals import refuse
from tests.simulation.kafka.topics import UNKNOWN_TOPIC_OR_PARTITION

if TYPE_CHECKING:
    from tests.simulation.kafka.cluster import Cluster
    from tests.simulation.timeline import Handle

GROUP_LOADING: Final = 14
COORDINATOR_NOT_AVAILABLE: Final = 15
MESSAGE_TOO_LARGE: Final = 10

_LATEST: Final = -1
_EARLIEST: Final = -2
_API_VERSIONS: Final = 18
_INIT_PRODUCER_ID: Final = 22


class SimulatedNode:
    """One node of the cluster."""

    def __init__(self, cluster: "Cluster", node_id: int) -> None:
        self.node_id: Final = node_id
        self.host: Final = f"kafka-{node_id}"
        self.port: Final = 9092
        self.up = True
        self.frozen = False
        self.fenced = False
        """Whether the others have given it up, as one that was frozen too long."""
        self.gives_up: Handle | None = None
        self.slow = 0.0
        """Seconds that each of its responses takes longer."""
        self.stale: tuple[Any, ...] | None = None
        """What it tells of the cluster if it does not hear of changes; see `Cluster.isolate`."""
        self._cluster = cluster
        self._producers = 0
        self._handlers: dict[str, Callable[[Wire, Any], None]] = {
            "produce": self._produce,
            "fetch": self._fetch,
            "list_offsets": self._list_offsets,
            "metadata": self._metadata,
            "commit": self._commit,
            "fetch_commits": self._fetch_commits,
            "find_coordinator": self._find_coordinator,
            "join": self._join,
            "heartbeat": self._heartbeat,
            "leave": self._leave,
            "sync": self._sync,
            "describe_groups": self._describe_groups,
            "describe_configs": self._describe_configs,
        }

    @property
    def is_alive(self) -> bool:
        """Whether it could lead a partition now."""
        return self.up and not self.frozen

    def handle(self, wire: Wire, request: Any) -> None:
        """Work on a request; see `tests.simulation.kafka.network.Node`."""
        if self.slow:
            self._cluster.timeline.after(self.slow, lambda: self._handle(wire, request))
        else:
            self._handle(wire, request)

    def _handle(self, wire: Wire, request: Any) -> None:
        if request.API_KEY == _API_VERSIONS:
            wire.reply(request.RESPONSE_TYPE(error_code=0, api_versions=[]))
            return
        if request.API_KEY == _INIT_PRODUCER_ID:
            self._init_producer_id(wire, request)
            return
        call = CALLS.get(request.API_KEY)
        if call is None:
            raise NotImplementedError(f"the simulated Kafka does not know {type(request).__name__}")
        fault = self._cluster.faults.take(wire.path.host.name, request)
        if fault is not None:
            self._cluster.tell(f"{call} of {wire.path.host.name}: {fault.effect} {fault.error or ''}")
            self._fail(wire, request, fault, self._handlers[call])
        else:
            self._handlers[call](wire, request)

    def _fail(self, wire: Wire, request: Any, fault: Fault, handler: Callable[[Wire, Any], None]) -> None:
        match fault.effect:
            case "error":
                wire.reply(refuse(request, fault.error))
            case "break":
                wire.break_()
            case "break after":
                wire.forget()  # the response is lost
                handler(wire, request)
                wire.break_()
            case "slow":
                self._cluster.timeline.after(fault.seconds, lambda: handler(wire, request))
            case "hang":
                pass

    def _produce(self, wire: Wire, request: Any) -> None:
        def part(topic: str, number: int, data: bytes) -> tuple[Any, ...]:
            partition = self._cluster.partition(topic, number)
            if partition is None:
                return (number, UNKNOWN_TOPIC_OR_PARTITION, -1, -1, -1)
            if partition.leader != self.node_id:
                return (number, NOT_LEADER, -1, -1, -1)
            if len(data) > int(self._cluster.topics[topic].config["max.message.bytes"]):
                return (number, MESSAGE_TOO_LARGE, -1, -1, -1)
            return (number, 0, partition.log.append(bytes(data)), -1, partition.log.start)

        topics = [(topic, [part(topic, number, data) for number, data in parts]) for topic, parts in request.topics]
        wire.reply(request.RESPONSE_TYPE(topics, 0))

    def _fetch(self, wire: Wire, request: Any) -> None:
        Fetch(self._cluster.timeline, self.node_id, wire, request, self._cluster.partition).begin()

    def _list_offsets(self, wire: Wire, request: Any) -> None:
        committed_only = bool(request.isolation_level)

        def part(topic: str, number: int, timestamp: int) -> tuple[Any, ...]:
            partition = self._cluster.partition(topic, number)
            if partition is None:
                return (number, UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
            if partition.leader != self.node_id:
                return (number, NOT_LEADER, -1, -1)
            log = partition.log
            if timestamp == _LATEST:
                return (number, 0, -1, log.last_stable_offset if committed_only else log.end)
            if timestamp == _EARLIEST:
                return (number, 0, -1, log.start)
            raise NotImplementedError("the simulated Kafka does not look up offsets by time")

        topics = [(topic, [part(topic, number, at) for number, at in parts]) for topic, parts in request.topics]
        wire.reply(request.RESPONSE_TYPE(0, topics))

    def _metadata(self, wire: Wire, request: Any) -> None:
        wire.reply(request.RESPONSE_TYPE(0, *self._cluster.described(self.node_id, request.topics)))

    def _init_producer_id(self, wire: Wire, request: Any) -> None:
        if request.transactional_id is not None:
            raise NotImplementedError("the simulated Kafka has no transactional producers; see Cluster.begin")
        self._producers += 1
        wire.reply(request.RESPONSE_TYPE(0, 0, 1_000_000 * self.node_id + self._producers, 0))

    def _find_coordinator(self, wire: Wire, request: Any) -> None:
        node = self._cluster.nodes[self._cluster.coordinator(request.coordinator_key)]
        if node.up and not node.fenced:
            wire.reply(request.RESPONSE_TYPE(0, 0, "", node.node_id, node.host, node.port))
        else:
            wire.reply(refuse(request, COORDINATOR_NOT_AVAILABLE))

    def _is_refused(self, wire: Wire, request: Any, group: str) -> bool:
        """Refuse what only the group's coordinator can answer."""
        error = self._group_error(group)
        if error:
            wire.reply(refuse(request, error))
        return bool(error)

    def _group_error(self, group: str) -> int:
        if self._cluster.coordinator(group) != self.node_id:
            return NOT_COORDINATOR
        return GROUP_LOADING if self._cluster.is_loading(group) else 0

    def _join(self, wire: Wire, request: Any) -> None:
        if self._is_refused(wire, request, request.group):
            return
        if request.group_instance_id is not None:
            raise NotImplementedError("the simulated Kafka has no static members")
        if len(request.group_protocols) != 1:
            raise NotImplementedError("the simulated Kafka has one assignment strategy in a group")
        ((protocol, metadata),) = request.group_protocols

        def answer(it: Joined) -> None:
            members = [(name, None, data) for name, data in it.members]
            fields = (0, it.error, it.generation, it.protocol, it.leader, it.member, members)
            wire.reply(request.RESPONSE_TYPE(*fields))

        join = Join(
            request.member_id,
            request.session_timeout / 1000,
            request.rebalance_timeout / 1000,
            protocol,
            metadata,
            wire.path.host.name,
        )
        self._cluster.group(request.group).join(join, answer)

    def _sync(self, wire: Wire, request: Any) -> None:
        if self._is_refused(wire, request, request.group):
            return
        self._cluster.group(request.group).sync(
            request.member_id,
            request.generation_id,
            request.group_assignment,
            lambda error, assignment: wire.reply(request.RESPONSE_TYPE(0, error, assignment)),
        )

    def _heartbeat(self, wire: Wire, request: Any) -> None:
        if not self._is_refused(wire, request, request.group):
            group = self._cluster.group(request.group)
            wire.reply(request.RESPONSE_TYPE(0, group.heartbeat(request.member_id, request.generation_id)))

    def _leave(self, wire: Wire, request: Any) -> None:
        if not self._is_refused(wire, request, request.group):
            wire.reply(request.RESPONSE_TYPE(0, self._cluster.group(request.group).leave(request.member_id)))

    def _commit(self, wire: Wire, request: Any) -> None:
        name = request.consumer_group
        if self._is_refused(wire, request, name):
            return
        offsets = {
            (topic, number): Commit(offset, metadata or "")
            for topic, parts in request.topics
            for number, offset, metadata in parts
        }
        known = {place: commit for place, commit in offsets.items() if self._cluster.partition(*place) is not None}
        errors = self._cluster.commit(name, request.consumer_id, request.consumer_group_generation_id, known)

        def error(topic: str, number: int) -> int:
            return errors.get((topic, number), UNKNOWN_TOPIC_OR_PARTITION)

        topics = [(topic, [(part[0], error(topic, part[0])) for part in parts]) for topic, parts in request.topics]
        wire.reply(request.RESPONSE_TYPE(0, topics))

    def _fetch_commits(self, wire: Wire, request: Any) -> None:
        name = request.consumer_group
        if self._is_refused(wire, request, name):
            return
        commits = self._cluster.group(name).commits
        wanted: Any = request.topics
        if wanted is None:
            wanted = [(topic, [number]) for topic, number in commits]

        def part(topic: str, number: int) -> tuple[Any, ...]:
            commit = commits.get((topic, number))
            return (number, -1, "", 0) if commit is None else (number, commit.offset, commit.metadata, 0)

        topics = [(topic, [part(topic, number) for number in numbers]) for topic, numbers in wanted]
        wire.reply(request.RESPONSE_TYPE(0, topics, 0))

    def _describe_groups(self, wire: Wire, request: Any) -> None:
        found: list[tuple[Any, ...]] = []
        for name in request.groups:
            if error := self._group_error(name):
                found.append((error, name, "", "", "", [], -1))
                continue
            group = self._cluster.group(name)
            members = [(member, member, "/127.0.0.1", b"", assigned) for member, assigned in group.members.items()]
            found.append((0, name, group.state, "consumer", group.protocol, members, -1))
        wire.reply(request.RESPONSE_TYPE(0, found))

    def _describe_configs(self, wire: Wire, request: Any) -> None:
        found = []
        for kind, name, _ in request.resources:
            topic = self._cluster.topics.get(name)
            config = topic.config if topic else {}
            entries: list[Any] = [(key, value, False, 5, False, []) for key, value in config.items()]
            found.append((0 if topic else UNKNOWN_TOPIC_OR_PARTITION, None, kind, name, entries))
        wire.reply(request.RESPONSE_TYPE(0, found))
