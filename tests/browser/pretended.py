"""What a service may say of itself: up to date, behind, and held up by an API."""

import time
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from consumer.ops.verdict import judge

TAGS = ["sesamy_active_subscriber", "sesamy_active_sku_avisa", "sesamy_tag_nyhetsbrev-øl"]
FIELDS = ["Sesamy User ID", "Has Active Subscription", "Active Subscriptions", "Next Payment Date", "Issues Remaining"]


def status(**differences: Any) -> dict[str, Any]:
    """Return the status of a healthy instance that differs in this; mappings are merged."""
    now = time.time()
    told: dict[str, Any] = {
        "version": "0.1.0",
        "python": "3.13.1",
        "now": now,
        "started_at": now - 93_000,
        "instance": "worker-0",
        "topic": "sesamy.events",
        "group_id": "sesamy-mailmojo",
        "dry_run": False,
        "concurrency": 64,
        "alive": True,
        "ready": True,
        "reasons": {},
        "calls": [],
        "generation": 4,
        "lease_remaining_seconds": 22.4,
        "lease_duration_seconds": 24.0,
        "users_in_flight": 2,
        "events_pending": 5,
        "oldest_pending_seconds": 1.3,
        "done_per_second": 2.4,
        "lag": 5,
        "partitions": {
            str(number): {"position": 48_210 + number * 977, "committed": 48_210 + number * 977 - lag, "lag": lag}
            for number, lag in enumerate((3, 0, 2, 0, 0, 0))
        },
        "waits": {
            "lingering": 1,
            "ready": 0,
            "sesamy_quota": 0,
            "reading": 2,
            "mailmojo_quota": 0,
            "writing": 0,
            "retrying": 0,
            "parked": 0,
            "giving_up": 0,
            "malformed": 0,
        },
        "apis": {
            "sesamy": _api(100 / 60, 0.6, {"ok": 61_204, "throttled": 0, "failed": 3}),
            "mailmojo": _api(5.0, 0.9, {"ok": 30_511, "throttled": 2, "failed": 1}),
        },
        "account_fields": {"status": "complete", "reason": None},
        "events": {
            "synced": 9_120,
            "unchanged": 3_004,
            "coalesced": 8_411,
            "skipped_guest": 612,
            "skipped_no_email": 40,
            "dead_lettered": 3,
        },
        "syncs": {"created": 402, "updated": 8_718, "unchanged": 3_004, "skipped": 652, "failed": 12},
        "dead_letters": {"malformed": 2, "rejected": 1, "exhausted": 0},
        "counters": {
            "rebalances": 4,
            "commit_failures": 0,
            "retries": 12,
            "records_lost": 0,
            "echo_mismatches": 0,
            "contact_conflicts": 0,
        },
        "last_success": now - 1.2,
        "sentinels": {"order_violations": 0, "commit_violations": 0},
        "recent_writes": [
            {
                "at": now - 4 * number - 1,
                "user_id": f"email|84cccf985de28a2a848247{number:02}",
                "partition": number % 6,
                "offset": 48_200 - number,
                "events": 1 + number % 3,
                "action": ("patch", "patch", "create", "subscribe")[number % 4],
                "fields": FIELDS[: 1 + number % 5],
                "tags_added": TAGS[: number % 4],
                "tags_removed": ["sesamy_overdue_contract"] if number % 3 == 0 else [],
            }
            for number in range(12)
        ],
        "recent_dead_letters": [
            {
                "at": now - 900,
                "reason": "rejected",
                "error": "Rejected: mailmojo post_subscriber 422: the address is not valid",
                "key": "email|2f7e91c0aa41b0c58a77d102",
                "partition": 2,
                "offset": 47_001,
                "attempts": 2,
            },
            {
                "at": now - 4_000,
                "reason": "malformed",
                "error": "not JSON",
                "key": "",
                "partition": 0,
                "offset": 44_817,
                "attempts": 0,
            },
        ],
    }
    for name, value in differences.items():
        told[name] = {**told[name], **value} if isinstance(value, Mapping) and name != "partitions" else value
    told["ready"] = not told["reasons"]
    return told | {"verdict": asdict(judge(told))}


def _api(allowed: float, used: float, answers: dict[str, int]) -> dict[str, Any]:
    return {
        "circuit_open": False,
        "reason": None,
        "quota_share": 1.0,
        "allowed_per_second": allowed,
        "used_per_second": used,
        "in_line": 0,
        "closed_for_seconds": 0.0,
        "answers": answers,
    }


HEALTHY = status()

BEHIND = status(
    users_in_flight=64,
    events_pending=11_840,
    oldest_pending_seconds=1_460.0,
    done_per_second=1.1,
    lag=14_210,
    partitions={
        str(number): {"position": 61_000, "committed": 61_000 - lag, "lag": lag}
        for number, lag in enumerate((3_120, 2_890, 1_400, 2_950, 1_870, 1_980))
    },
    waits={"lingering": 14, "ready": 3_402, "sesamy_quota": 58, "reading": 4, "writing": 1, "retrying": 3},
    apis={
        "sesamy": _api(100 / 60, 1.66, {"ok": 61_204, "throttled": 4, "failed": 3}) | {"in_line": 58},
        "mailmojo": _api(5.0, 0.8, {"ok": 30_511, "throttled": 2, "failed": 1}),
    },
)

REFUSED = (
    "mailmojo get_contact: HTTP 401; down since 2026-11-10T12:00:00Z; "
    "the credentials are refused; check MAILMOJO_API_TOKEN"
)

HELD_UP = status(
    reasons={"mailmojo": REFUSED},
    users_in_flight=0,
    events_pending=412,
    oldest_pending_seconds=203.0,
    done_per_second=0.0,
    lag=412,
    waits={"lingering": 0, "parked": 371, "reading": 0},
    apis={
        "sesamy": _api(100 / 60, 0.0, {"ok": 61_204, "throttled": 0, "failed": 3}),
        "mailmojo": _api(5.0, 0.2, {"ok": 30_511, "throttled": 2, "failed": 44})
        | {"circuit_open": True, "reason": REFUSED},
    },
)

BROKEN = status(sentinels={"order_violations": 1})
