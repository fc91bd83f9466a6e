"""Consumer groups as the coordinator keeps them: members, generations, eager rebalances, and the group's commits.

The classic protocol of Apache Kafka 4. Not modelled: static members, and several assignment strategies in one group.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from tests.simulation.timeline import Handle, Timeline

NONE: Final = 0
OFFSET_METADATA_TOO_LARGE: Final = 12
NOT_COORDINATOR: Final = 16
ILLEGAL_GENERATION: Final = 22
UNKNOWN_MEMBER_ID: Final = 25
REBALANCE_IN_PROGRESS: Final = 27
MEMBER_ID_REQUIRED: Final = 79

METADATA_LIMIT: Final = 4096
"""Characters that the metadata of a commit may have: `offset.metadata.max.bytes`."""

_LOOK: Final = 0.1
"""Seconds between looks whether a coordinator is still frozen."""

Place = tuple[str, int]


class Commit(Struct, frozen=True):
    """The group's commit in a partition."""

    offset: int
    metadata: str


class Joined(Struct, frozen=True):
    """The answer to a join."""

    error: int
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    member: str = ""
    members: tuple[tuple[str, bytes], ...] = ()


class Join(Struct, frozen=True):
    """What a member says of itself when it joins; times in seconds."""

    member: str
    session_timeout: float
    rebalance_timeout: float
    protocol: str
    metadata: bytes
    client_id: str = "member"


class _Member:
    __slots__ = ("assignment", "expires", "join", "joined", "name", "synced")

    def __init__(self, name: str, join: Join) -> None:
        self.name = name
        self.join = join
        self.joined: Callable[[Joined], None] | None = None
        """Answers a join that waits for the others."""
        self.synced: Callable[[int, bytes], None] | None = None
        """Answers a sync that waits for the leader's."""
        self.assignment = b""
        self.expires = 0.0


class Group:
    """One group, at its coordinator."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        *,
        initial_delay: float = 0.0,
        is_frozen: Callable[[], bool] = lambda: False,
    ) -> None:
        """Keep a group; nothing runs out while its coordinator is frozen."""
        self.name: Final = name
        self.generation = 0
        self.state = "Empty"
        self.commits: dict[Place, Commit] = {}
        self.observe: Callable[[str], None] = lambda _: None
        """Told of what happens, in words."""
        self._timeline = timeline
        self._initial_delay = initial_delay
        self._is_frozen = is_frozen
        self._members: dict[str, _Member] = {}
        self._promised: dict[str, Handle] = {}
        """Identities given to joins that did not come back yet."""
        self._leader = ""
        self._numbers = 0
        self._ends: Handle | None = None
        self._saved: tuple[int, str, dict[str, bytes]] = 0, "", {}
        """The generation, the leader and the assignments that every coordinator knows."""

    @property
    def members(self) -> Mapping[str, bytes]:
        """The members with what each is assigned, as bytes of the consumer protocol."""
        return {name: member.assignment for name, member in self._members.items()}

    @property
    def protocol(self) -> str:
        """The assignment strategy."""
        return next((member.join.protocol for member in self._members.values()), "")

    def join(self, join: Join, answer: Callable[[Joined], None]) -> None:
        """Take a join; it is answered when all members have come, or those who did not are dropped."""
        name = join.member
        if not name:
            self._numbers += 1
            name = f"{join.client_id}-{self._numbers:04d}"
            forget = self._timeline.after(join.session_timeout, lambda: self._break_promise(name))
            self._promised[name] = forget
            answer(Joined(MEMBER_ID_REQUIRED, member=name))
            return
        if name in self._promised:
            self._promised.pop(name).cancel()
            self._members[name] = member = _Member(name, join)
            self._renew(member)
            self._timeline.at(member.expires, lambda: self._expire(member))
            self._await_join(member, answer)
        elif (known := self._members.get(name)) is None:
            answer(Joined(UNKNOWN_MEMBER_ID, member=name))
        else:
            self._join_again(known, join, answer)

    def _join_again(self, member: _Member, join: Join, answer: Callable[[Joined], None]) -> None:
        changed = (member.join.protocol, member.join.metadata) != (join.protocol, join.metadata)
        member.join = join
        is_settled = self.state == "Stable" and member.name != self._leader
        if not changed and (is_settled or self.state == "CompletingRebalance"):
            answer(self._answer(member))  # nothing changed for the group: it may be that the answer was lost
        else:
            self._await_join(member, answer)

    def _await_join(self, member: _Member, answer: Callable[[Joined], None]) -> None:
        if member.joined is not None:
            member.joined(Joined(UNKNOWN_MEMBER_ID, member=member.name))
        member.joined = answer
        if self.state == "PreparingRebalance":
            self._complete_when_all_joined()
        else:
            self._prepare()

    def _prepare(self) -> None:
        """Begin a rebalance."""
        for member in self._members.values():
            if member.synced is not None:
                self._answer_sync(member, REBALANCE_IN_PROGRESS)
            member.assignment = b""
        is_first = self.state == "Empty"
        self.state = "PreparingRebalance"
        self.observe(f"group {self.name} rebalances")
        if is_first and self._initial_delay:
            self._ends = self._timeline.after(self._initial_delay, self._time_out)
            return
        timeout = max((member.join.rebalance_timeout for member in self._members.values()), default=0.0)
        self._ends = self._timeline.after(timeout, self._time_out)
        self._complete_when_all_joined()

    def _time_out(self) -> None:
        if self._is_frozen():
            self._ends = self._timeline.after(_LOOK, self._time_out)
        else:
            self._complete()

    def _complete_when_all_joined(self) -> None:
        if self.generation == 0 and self._initial_delay:
            return
        if not self._promised and all(member.joined is not None for member in self._members.values()):
            self._complete()

    def _complete(self) -> None:
        """Begin a generation with those who have joined."""
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        for name in [name for name, member in self._members.items() if member.joined is None]:
            del self._members[name]
            self.observe(f"group {self.name} drops {name}: it did not join in time")
        self.generation += 1
        if not self._members:
            self.state = "Empty"
            self._saved = self.generation, "", {}
            return
        self.state = "CompletingRebalance"
        if self._leader not in self._members:
            self._leader = next(iter(self._members))
        self.observe(f"group {self.name} has generation {self.generation} of {len(self._members)}")
        for member in list(self._members.values()):
            answer, member.joined = member.joined, None
            self._renew(member)
            if answer is not None:
                answer(self._answer(member))

    def _answer(self, member: _Member) -> Joined:
        others: tuple[tuple[str, bytes], ...] = ()
        if member.name == self._leader:
            others = tuple((name, it.join.metadata) for name, it in self._members.items())
        return Joined(NONE, self.generation, member.join.protocol, self._leader, member.name, others)

    def sync(
        self, name: str, generation: int, assignments: Iterable[tuple[str, bytes]], answer: Callable[[int, bytes], None]
    ) -> None:
        """Take a sync; it is answered when the leader has sent its own, which says who gets what."""
        if error := self._refusal(name, generation):
            answer(error, b"")
        elif self.state == "PreparingRebalance":
            answer(REBALANCE_IN_PROGRESS, b"")
        elif self.state == "Stable":
            answer(NONE, self._members[name].assignment)
        else:
            self._members[name].synced = answer
            if name != self._leader:
                return
            for other, assignment in assignments:
                if other in self._members:
                    self._members[other].assignment = assignment
            self.state = "Stable"
            self._saved = self.generation, self._leader, dict(self.members)
            for member in self._members.values():
                if member.synced is not None:
                    self._answer_sync(member, NONE)

    def _answer_sync(self, member: _Member, error: int) -> None:
        answer, member.synced = member.synced, None
        self._renew(member)
        if answer is not None:
            answer(error, b"" if error else member.assignment)

    def heartbeat(self, name: str, generation: int) -> int:
        """Renew a member's session, and return an error code: whether it has to join again."""
        if error := self._refusal(name, generation):
            return error
        self._renew(self._members[name])
        return REBALANCE_IN_PROGRESS if self.state == "PreparingRebalance" else NONE

    def leave(self, name: str) -> int:
        """Take a member's farewell: its partitions move at once."""
        if name not in self._members:
            return UNKNOWN_MEMBER_ID
        self._drop(self._members[name], "it left")
        return NONE

    def commit(self, name: str, generation: int, offsets: Mapping[Place, Commit]) -> dict[Place, int]:
        """Store a member's commits, and return an error code for each; one that is accepted renews the session."""
        error = self._commit_refusal(name, generation)
        if error:
            return dict.fromkeys(offsets, error)
        if name in self._members:
            self._renew(self._members[name])
        found = {}
        for place, commit in offsets.items():
            fits = len(commit.metadata) <= METADATA_LIMIT
            found[place] = NONE if fits else OFFSET_METADATA_TOO_LARGE
            if fits:
                self.commits[place] = commit
        return found

    def _commit_refusal(self, name: str, generation: int) -> int:
        if generation < 0 and self.state == "Empty":
            return NONE  # somebody who is no member may commit where there is none
        if generation < 0 and not name:
            return UNKNOWN_MEMBER_ID
        if error := self._refusal(name, generation):
            return error
        return REBALANCE_IN_PROGRESS if self.state == "CompletingRebalance" else NONE

    def _refusal(self, name: str, generation: int) -> int:
        if name not in self._members:
            return UNKNOWN_MEMBER_ID
        return NONE if generation == self.generation else ILLEGAL_GENERATION

    def expel(self, name: str) -> None:
        """Drop a member, as an administrator may; it learns of that by its next request."""
        self._drop(self._members[name], "it was expelled")

    def moved(self) -> None:
        """Note that another node coordinates the group now, which knows the last generation that was complete."""
        members = list(self._members.values())
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        for forget in self._promised.values():
            forget.cancel()
        self._promised.clear()
        if self.state != "Stable":
            self.generation, self._leader, assignments = self._saved
            self._members = {name: it for name, it in self._members.items() if name in assignments}
            self.state = "Stable" if self._members else "Empty"
            for name, member in self._members.items():
                member.assignment = assignments[name]
        for member in self._members.values():
            self._renew(member)
        for member in members:
            joined, synced, member.joined, member.synced = member.joined, member.synced, None, None
            if joined is not None:
                joined(Joined(NOT_COORDINATOR, member=member.name))
            if synced is not None:
                synced(NOT_COORDINATOR, b"")

    def _renew(self, member: _Member) -> None:
        member.expires = self._timeline.now + member.join.session_timeout

    def _expire(self, member: _Member) -> None:
        """Drop a member whose session is over; one that waits for an answer is alive."""
        if self._members.get(member.name) is not member:
            return
        if member.joined is not None or member.synced is not None:
            self._renew(member)
        if self._is_frozen():
            member.expires = self._timeline.now + _LOOK
        if self._timeline.now < member.expires:
            self._timeline.at(member.expires, lambda: self._expire(member))
        else:
            self._drop(member, "its session is over")

    def _break_promise(self, name: str) -> None:
        if self._promised.pop(name, None) is not None and self.state == "PreparingRebalance":
            self._complete_when_all_joined()

    def _drop(self, member: _Member, reason: str) -> None:
        del self._members[member.name]
        self.observe(f"group {self.name} drops {member.name}: {reason}")
        if member.joined is not None:
            member.joined(Joined(UNKNOWN_MEMBER_ID, member=member.name))
        if member.synced is not None:
            member.synced(UNKNOWN_MEMBER_ID, b"")
        if self.state == "PreparingRebalance":
            self._complete_when_all_joined()
        elif self.state != "Empty":
            self._prepare()
