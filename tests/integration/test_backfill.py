"""Backfills beside the service: everybody asked for once, also after kills, and events not held back."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from consumer.sandbox.population import USERS
from schemas.events import SYNC_REQUEST
from tests.integration.stage import Stage, event, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until


def result(process: ServiceProcess) -> dict[str, Any]:
    assert process.returncode == 0, process.output()
    found: dict[str, Any] = json.loads(process.stdout.read_text())
    return found


async def asked(stage: Stage) -> Counter[str]:
    values = [json.loads(record.value or b"{}") for record in await stage.kafka.read_all(stage.topic)]
    return Counter(value["userId"] for value in values if value["eventType"] == SYNC_REQUEST)


async def test_killed_again_and_again_it_asks_for_everybody_and_for_hardly_anybody_twice(
    stage: Stage, tmp_path: Path
) -> None:
    users = stage.users(2_000)
    file = tmp_path / "checkpoint.json"

    def offset() -> int:
        return int(json.loads(file.read_text())["offset"]) if file.exists() else 0

    async def reached(goal: int) -> None:
        await wait_until(lambda: offset() >= goal, what=f"{goal} users asked for")

    for goal in (300, 700, 1_200):
        process = stage.start("backfill", "--checkpoint", str(file))
        await reached(goal)
        process.kill()
        assert 0 < offset() < len(users), "it was too quick to be killed"
    last = await stage.finish("backfill", "--checkpoint", str(file), "--json")
    assert result(last) == {
        "users": 2_000,
        "requested": 2_000,
        "guests": 0,
        "without_email": 0,
        "unusable": 0,
        "complete": True,
    }
    assert not file.exists()
    assert all(
        (record.key or b"").decode() == json.loads(record.value or b"")["userId"]
        for record in await stage.kafka.read_all(stage.topic)
    )
    found = await asked(stage)
    assert found.keys() == set(users)
    assert found.total() - len(users) <= len(users) // 100
    assert len(stage.requests_since(0, "list_users")) <= 2 + 3 * 3


async def test_events_are_synced_ahead_of_it_and_every_contact_is_right(stage: Stage) -> None:
    users = stage.users(400)
    for latency in ("sesamy", "mailmojo"):
        stage.fail(api=latency, delay=0.02)
    service = await stage.service(SYNC_CONCURRENCY="8")
    await stage.finish("backfill")
    for user_id in users[-5:]:
        stage.world.change(user_id)
    await stage.send(*(event(user_id) for user_id in users[-5:]))
    await wait_until(lambda: not stage.stale(users[-5:]), what="the live events are synced")
    assert len(stage.stale(users)) > 50, "the backfill was done already: this shows nothing"
    await stage.all_committed()
    assert stage.stale(users) == {}
    await stop(service)


async def test_a_dry_run_counts_by_kind_and_asks_for_nobody(stage: Stage, tmp_path: Path) -> None:
    stage.world.populate(300, 1, kinds=USERS)
    file = tmp_path / "checkpoint.json"
    dry = result(await stage.finish("backfill", "--dry-run", "--json", "--checkpoint", str(file)))
    assert dry["users"] == 300 == sum(dry[kind] for kind in ("requested", "guests", "without_email", "unusable"))
    assert dry["guests"] > 0
    assert dry["without_email"] > 0
    assert (await asked(stage), file.exists()) == (Counter(), False)

    told = await stage.finish("backfill")
    assert told.returncode == 0
    assert "nobody is in group" in told.stderr.read_text()
    assert (await asked(stage)).total() == dry["requested"]
    stage.assert_discreet(told.output())


async def test_what_is_wrong_is_said_plainly(stage: Stage) -> None:
    stage.fail(api="sesamy", status=401)
    refused = await stage.finish("backfill")
    assert refused.returncode == 1
    assert "sesamy list_users: HTTP 401" in refused.output()
    missing = await stage.finish("backfill", settings={"KAFKA_TOPIC": "nowhere"})
    assert missing.returncode == 1
    assert "KAFKA_TOPIC" in missing.output()
    assert "Traceback" not in refused.output() + missing.output()
