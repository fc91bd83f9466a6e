"""Our own records in the topic, which ask the service to sync a user (`docs/contract.md`, the topic)."""

import time
from datetime import UTC, datetime

import orjson

from consumer.clock import Clock
from consumer.settings import Settings
from schemas.events import SYNC_REQUEST


def encode(settings: Settings, user_id: str, *, wall_clock: Clock = time.time) -> bytes:
    """Return the value of a request, inside the envelope that `kafka.value_pointer` describes."""
    value: dict[str, object] = {
        "eventType": SYNC_REQUEST,
        "vendorId": settings.sesamy.vendor_id or "sesamy-mailmojo",
        "userId": user_id,
        "occured_at": datetime.fromtimestamp(wall_clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    for part in reversed((settings.kafka.value_pointer or "").split("/")[1:]):
        value = {part.replace("~1", "/").replace("~0", "~"): value}
    return orjson.dumps(value)
