"""The environment of the instances: the caller's way to Kafka and of syncing, the sandbox's addresses, nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from consumer.loadtest.plan import LoadPlan
from consumer.secret import Secret
from consumer.settings import Settings
from consumer.settings.tree import Row, table

_FROM_SYSTEM: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OWN: Final = {
    "kafka.topic",
    "kafka.group_id",
    "kafka.client_id",
    "kafka.dead_letter_topic",
    "kafka.auto_offset_reset",
    "sync.dry_run",
}
"""Settings of these two sections that a load test brings itself."""

_UNBOUNDED: Final = {
    "SESAMY_REQUESTS_PER_MINUTE": "1000000",
    "SESAMY_BURST": "20000",
    "MAILMOJO_REQUESTS_PER_SECOND": "100000",
    "MAILMOJO_BURST": "20000",
}
"""More than any load needs. No larger bursts: an instance whose share shrinks, as that of the first one does when the
others join, may have to wait for burst / rate seconds (measured: two minutes with a million)."""


def system() -> dict[str, str]:
    """Return what any process needs of this one's environment, and nothing that is a setting."""
    return {name: os.environ[name] for name in _FROM_SYSTEM if name in os.environ}


def of_instance(
    settings: Settings, plan: LoadPlan, sandbox: Mapping[str, str], topic: str, number: int
) -> dict[str, str]:
    """Return the environment of an instance.

    Built from nothing, so that no address of a real API and none of its credentials can be in it.

    Args:
        settings: the caller's.
        plan: the load test's.
        sandbox: the settings that point at the sandbox.
        topic: the events' topic; the group has its name.
        number: the instance's, from 1.
    """
    quotas = dict(_UNBOUNDED)
    if plan.sesamy:
        quotas["SESAMY_REQUESTS_PER_MINUTE"] = f"{plan.sesamy.rate * 60:.10g}"
        quotas["SESAMY_BURST"] = f"{plan.sesamy.burst:.0f}"
    if plan.mailmojo:
        quotas["MAILMOJO_REQUESTS_PER_SECOND"] = f"{plan.mailmojo.rate:.10g}"
        quotas["MAILMOJO_BURST"] = f"{plan.mailmojo.burst:.0f}"
    return {
        **system(),
        **_kept(settings),
        **quotas,
        **sandbox,
        "KAFKA_TOPIC": topic,
        "KAFKA_GROUP_ID": topic,
        "KAFKA_CLIENT_ID": f"{topic}-{number}",
        "KAFKA_AUTO_OFFSET_RESET": "earliest",
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": "0",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
    }


def syncing(settings: Settings) -> dict[str, str]:
    """Return the settings that say how the instances sync, for the report."""
    return {name: value for name, value in _kept(settings).items() if name.startswith("SYNC_")}


def _kept(settings: Settings) -> dict[str, str]:
    kept = {}
    for row in table():
        if _is_kept(row):
            value = getattr(getattr(settings, row.section), row.key)
            if text := _text(value):
                kept[row.setting.env] = text
    return kept


def _is_kept(row: Row) -> bool:
    return (row.section in {"kafka", "sync"} and row.toml not in _OWN) or row.toml == "sesamy.vendor_id"


def _text(value: object) -> str:
    """Return the value as a user would write it; empty where it is not set."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value) or ","  # an empty one would be the default
        case Secret():
            return value.value
        case ZoneInfo():
            return value.key
        case str() | int() | float() | Path():
            return str(value)
    raise TypeError(f"a setting of type {type(value).__name__}")
