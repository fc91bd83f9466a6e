"""Single calls that fail, hang or lose their answer, beside what happens to whole nodes and networks."""

from collections.abc import Callable
from typing import Any, Final, Literal

from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from msgspec import Struct, field

Call = Literal[
    "produce",
    "fetch",
    "list_offsets",
    "metadata",
    "commit",
    "fetch_commits",
    "find_coordinator",
    "join",
    "heartbeat",
    "leave",
    "sync",
    "describe_groups",
    "describe_configs",
]

CALLS: Final[dict[int, Call]] = {
    ProduceRequest.API_KEY: "produce",
    FetchRequest.API_KEY: "fetch",
    OffsetRequest.API_KEY: "list_offsets",
    MetadataRequest.API_KEY: "metadata",
    OffsetCommitRequest.API_KEY: "commit",
    OffsetFetchRequest.API_KEY: "fetch_commits",
    FindCoordinatorRequest.API_KEY: "find_coordinator",
    JoinGroupRequest.API_KEY: "join",
    HeartbeatRequest.API_KEY: "heartbeat",
    LeaveGroupRequest.API_KEY: "leave",
    SyncGroupRequest.API_KEY: "sync",
    DescribeGroupsRequest.API_KEY: "describe_groups",
    DescribeConfigsRequest.API_KEY: "describe_configs",
}

Effect = Literal["error", "hang", "break", "break after", "slow"]
"""An error code; no answer at all; a connection that breaks before or after the call took effect; a late answer."""


class Fault(Struct):
    """What happens to the next calls of a kind."""

    call: Call
    effect: Effect
    error: int = 0
    seconds: float = 0.0
    times: int = 1
    """How many calls it happens to."""
    where: Callable[[str, Any], bool] = field(default=lambda _host, _request: True)
    """Whether it happens to this host's request."""


class Faults:
    """The faults that are still to happen."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Have it happen to the next calls that it is meant for."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Let nothing more fail."""
        self._waiting.clear()

    def take(self, host: str, request: Any) -> Fault | None:
        """Return what happens to this call, or None."""
        if not self._waiting:
            return None
        call = CALLS.get(request.API_KEY)
        for fault in self._waiting:
            if fault.call == call and fault.where(host, request):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None
