"""Short forms of the experiments that `docs/guarantees.md` quotes figures of."""

from pathlib import Path

import pytest

from tests.chaos.at_the_send import stop_at_the_send
from tests.chaos.backfill import backfill
from tests.chaos.drain import drain
from tests.chaos.freeze import freeze
from tests.chaos.kill import kill
from tests.chaos.mutations import mutations
from tests.chaos.rebalances import rebalance
from tests.http_clients import needs_connection_client
from tests.kafka_broker import KafkaBroker


@pytest.mark.timeout(180)
async def test_kill_9_loses_nothing_and_little_is_done_again(kafka: KafkaBroker, tmp_path: Path) -> None:
    result = await drain(kafka, tmp_path, how="kill", records=400, strikes=2)
    assert not result.missed


@pytest.mark.timeout(180)
async def test_kill_9_at_full_load_has_little_more_done_again_than_was_in_flight(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    result = await kill(kafka, tmp_path, records=1000, kills=2, concurrency=32)
    assert not result.missed


@pytest.mark.timeout(180)
async def test_rebalances_in_a_row_cost_less_than_half_and_redo_nothing(kafka: KafkaBroker, tmp_path: Path) -> None:
    result = await rebalance(kafka, tmp_path, seconds=12, records=1200)
    assert not result.missed


@pytest.mark.timeout(180)
async def test_beside_a_backfill_that_uses_the_whole_quota_an_event_waits_for_no_more_than_one_sync(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    result = await backfill(kafka, tmp_path, users=400, kills=1, rate=2, alone=5, quota=60)
    assert not result.missed


@pytest.mark.timeout(180)
async def test_k1_after_random_mutations_every_record_is_done_or_a_dead_letter(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    result = await mutations(kafka, tmp_path, count=60, seed=12)
    assert not result.missed


@pytest.mark.timeout(180)
async def test_k7_an_instance_frozen_in_the_midst_of_its_writes_leaves_no_contact_wrong(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    result = await freeze(kafka, tmp_path, rounds=3, users=600, rate=10)
    assert not result.missed
    assert result.figures["late writes noticed"]


@needs_connection_client  # with `ClientSession` a write that follows its check by a turn of the loop may be stale
@pytest.mark.timeout(180)
async def test_k7_an_instance_stopped_exactly_at_a_write_sends_nothing_stale_that_is_not_repaired(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    result = await stop_at_the_send(kafka, tmp_path, rounds=2, users=80)
    assert not result.missed
    assert result.figures["stopped between check and write"] == 1
