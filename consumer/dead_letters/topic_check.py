"""Whether the dead-letter topic, as it is configured, can take every dead letter."""

from collections.abc import Mapping
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

_HEADERS: Final = 4096
"""Bytes that key and headers of a dead letter may take, rounded up."""


async def faults(client: AIOKafkaAdminClient, topic: str) -> list[str]:
    """Return what keeps dead letters from being stored, each with its remedy; writes nothing.

    What this user may not see (it needs DescribeConfigs on the topic) is taken for right.
    """
    try:
        config = await _config(client, topic)
        replicas = await _replicas(client, topic)
    except KafkaError:
        return []
    found = []
    if "compact" in config.get("cleanup.policy", ""):
        found.append(
            "its cleanup.policy=compact rejects a dead letter without a key and drops older ones of the same user; "
            "set cleanup.policy to delete"
        )
    largest = _number(config.get("max.message.bytes"))
    if largest is not None and largest < _HEADERS:
        found.append(
            f"its max.message.bytes={largest} is less than the {_HEADERS} bytes that a dead letter may need; "
            "raise it, best to that of KAFKA_TOPIC"
        )
    wanted = _number(config.get("min.insync.replicas"))
    if wanted is not None and replicas is not None and wanted > replicas:
        found.append(
            f"its min.insync.replicas={wanted} is more than the {replicas} replicas that a partition of it has; "
            "lower it, or add replicas"
        )
    return found


async def _config(client: AIOKafkaAdminClient, topic: str) -> Mapping[str, str]:
    (response,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    resources: Any = response.resources  # type: ignore[attr-defined]
    for code, message, _, _, entries in resources:
        if code:
            raise for_code(code)(message)
        return {name: value for name, value, *_ in entries}
    return {}


async def _replicas(client: AIOKafkaAdminClient, topic: str) -> int | None:
    topics = await client.describe_topics()  # asked for by name, a missing topic may be created (measured)
    counts = [len(it["replicas"]) for found in topics if found["topic"] == topic for it in found["partitions"]]
    return min(counts, default=None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None
