"""The responses that say that a call failed, with the same error for everything in the call."""

from typing import Any

from tests.simulation.kafka.faults import CALLS


def refuse(request: Any, error: int) -> Any:
    """Return the response to a request whose every part failed with this error code."""
    response: Any = request.RESPONSE_TYPE
    match CALLS.get(request.API_KEY):
        case "produce":
            return response(_parts(request.topics, lambda part: (part[0], error, -1, -1, -1)), 0)
        case "fetch":
            return response(0, 0, 0, _parts(request.topics, lambda part: (part[0], error, -1, -1, -1, [], -1, b"")))
        case "list_offsets":
            return response(0, _parts(request.topics, lambda part: (part[0], error, -1, -1)))
        case "commit":
            return response(0, _parts(request.topics, lambda part: (part[0], error)))
        case "fetch_commits":
            return response(0, _parts(request.topics, lambda part: (part, -1, "", error)), error)
        case "find_coordinator":
            return response(0, error, "", -1, "", -1)
        case "join":
            return response(0, error, -1, "", "", request.member_id, [])
        case "sync":
            return response(0, error, b"")
        case "heartbeat" | "leave":
            return response(0, error)
        case "metadata":
            return response(0, [], "simulated", -1, [(error, topic, False, []) for topic in request.topics or []])
        case "describe_groups":
            return response(0, [(error, group, "", "", "", [], -1) for group in request.groups])
        case call:
            raise NotImplementedError(f"the simulated Kafka has no error response for {call or request}")


def _parts(topics: Any, part_of: Any) -> list[Any]:
    return [(topic, [part_of(part) for part in parts]) for topic, parts in topics]
