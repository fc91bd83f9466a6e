"""Has the faults of a scenario happen at their times."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from consumer.sandbox import Rule
from tests.simulation.apis import Request
from tests.simulation.host import Host
from tests.simulation.kafka import Fault as KafkaFault
from tests.simulation.kafka import NewRecord
from tests.simulation.scenario import (
    AbortedTransaction,
    ApisUnreachable,
    CallFails,
    CoordinatorMoves,
    Cut,
    Fault,
    Forgotten,
    Freeze,
    FreezeAtWrite,
    Join,
    Kill,
    Leave,
    NodeDown,
    NodeFrozen,
    TokensRevoked,
    Trouble,
)

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

_CONTACTS: Final = "/v1/contacts/"
_TOPIC: Final = "events"
_GROUP: Final = "group"


class Faulting:
    """The faults of one world."""

    def __init__(self, world: "Simulation") -> None:
        self._world = world
        self._timeline = world.timeline
        self._freezing: dict[str, float] = {}
        self.end = 0.0
        """When the last fault is over, as far as that is known."""
        self.late: set[str] = set()
        """Addresses of contacts that were written to by a process that stood still at that moment."""
        self.lost: set[str] = set()
        """Users whose contact may keep an older state: such a process was killed before it could ask for a sync."""
        self.poisoned: dict[str, str] = {}
        """Users that always fail, and the reason of their dead letter."""
        if world.scenario.poisoned:
            always_500, always_422 = world.users.user_ids()[:2]
            self.poisoned = {always_500: "exhausted", always_422: "rejected"}

    def begin(self) -> None:
        """Plan all of them."""
        world = self._world
        world.apis.before_write = self._before_write
        for user_id, reason in self.poisoned.items():
            address = world.address(user_id)
            add = world.apis.sandbox.faults.add
            if reason == "exhausted":
                add(Rule(api="mailmojo", key=address, status=500))
            else:
                for operation in ("patch_contact", "post_subscriber"):
                    add(Rule(api="mailmojo", operation=operation, key=address, status=422))
        for fault in world.scenario.faults:
            self._at(fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]

    def _at(self, when: float, callback: Callable[[], Any]) -> None:
        self.end = max(self.end, when)
        self._timeline.at(when, callback)

    def _after(self, seconds: float, callback: Callable[[], Any]) -> None:
        self._at(self._timeline.now + seconds, callback)

    def _strike(self, fault: Fault) -> None:
        world, cluster = self._world, self._world.cluster
        world.trace.tell("fault", repr(fault))
        match fault:
            case Kill(instance=name, back=back):
                world.kill(name)
                self._after(back, lambda: world.start(name))
            case Freeze(instance=name, lasts=lasts):
                self._freeze(name, lasts)
            case FreezeAtWrite(instance=name, lasts=lasts):
                self._freezing[name] = lasts
                self.end = max(self.end, fault.at + lasts)
            case Leave(instance=name, back=back):
                self._leave(name, back)
            case Join(instance=name, lasts=lasts):
                world.start(name)
                self._after(lasts, lambda: self._leave(name, None))
            case NodeDown(node=node, lasts=lasts, fails_over=fails_over):
                cluster.kill(node, fail_over=fails_over)
                self._after(lasts, lambda: self._restart(node))
            case NodeFrozen(node=node, lasts=lasts):
                cluster.freeze(node)
                self._after(lasts, lambda: cluster.thaw(node))
            case Cut(instance=name, lasts=lasts):
                self._for_host(name, cluster.cut)
                self._after(lasts, lambda: self._for_host(name, cluster.heal))
            case Forgotten(instance=name):
                self._for_host(name, cluster.forget)
            case CoordinatorMoves(loading=loading):
                node = cluster.coordinator(_GROUP) % len(cluster.nodes) + 1
                cluster.move_coordinator(_GROUP, node, loading=loading)
                self._after(loading, lambda: None)
            case CallFails(call=call, effect=effect, times=times, seconds=seconds, error=error):
                cluster.fail(KafkaFault(call, effect, error=error, seconds=seconds, times=times))  # type: ignore[arg-type]
                self._after(10.0, cluster.faults.clear)
            case AbortedTransaction(lasts=lasts):
                self._abort_transaction(lasts)
            case Trouble(rule=rule):
                world.apis.sandbox.faults.add(rule)
                self._after(rule.lasts or 0.0, lambda: None)
            case ApisUnreachable(instance=name, lasts=lasts):
                world.apis.unreachable.add(name)
                self._after(lasts, lambda: world.apis.unreachable.discard(name))
            case TokensRevoked():
                world.apis.sandbox.sesamy.revoke_tokens()

    def _restart(self, node: int) -> None:
        """Start a node, which leads every partition that nobody leads: it has a replica of each."""
        cluster = self._world.cluster
        cluster.restart(node)
        for topic in cluster.topics.values():
            for number, partition in enumerate(topic.partitions):
                if not (partition.leader in cluster.nodes and cluster.nodes[partition.leader].up):
                    cluster.move_leader(topic.name, number, node)

    def _host(self, name: str) -> Host | None:
        process = self._world.running.get(name)
        return process.host if process is not None else None

    def _for_host(self, name: str, action: Callable[[Host], None]) -> None:
        if (host := self._host(name)) is not None:
            action(host)

    def _freeze(self, name: str, lasts: float) -> None:
        host = self._host(name)
        if host is not None and not host.frozen:
            host.freeze()
            self._after(lasts, host.thaw)

    def _leave(self, name: str, back: float | None) -> None:
        world, process = self._world, self._world.running.get(name)
        if process is None:
            return
        process.stop()
        if back is not None:
            self._after(process.patience + back, lambda: world.start(name))

    def _before_write(self, host: Host, request: Request) -> None:
        address = _address(request)
        if host.name not in self._freezing or address is None or host.frozen:
            return
        lasts = self._freezing.pop(host.name)
        self.end = max(self.end, self._timeline.now + lasts)
        self.late.add(address)
        self._world.trace.tell(host.name, f"freezes for {lasts:g} s between the check and the write")
        host.freeze()
        self._timeline.run_until(self._timeline.now + lasts)
        host.thaw()
        self._world.trace.tell(host.name, "goes on and writes")

    def _abort_transaction(self, lasts: float) -> None:
        cluster = self._world.cluster
        for number in range(self._world.scenario.partitions):
            producer = cluster.begin()
            log = cluster.log(_TOPIC, number)
            value = b'{"eventType": "contract.1#update", "vendorId": "simulated", "userId": "never"}'
            log.write([NewRecord(b"never", value)], cluster.now_ms(), producer)

            def end(log: Any = log, producer: int = producer) -> None:
                log.end_transaction(producer, cluster.now_ms(), commit=False)

            self._after(lasts, end)


def _address(request: Request) -> str | None:
    """Return the address of the contact that a request writes to, in lower case; None for another request."""
    if request.target.startswith(_CONTACTS):
        return unquote(request.target.removeprefix(_CONTACTS).rstrip("/")).lower()
    if request.target.endswith("/subscribers/"):
        return str(json.loads(request.body or b"{}").get("email", "")).lower()
    return None
