from pathlib import Path

import pytest

from tests.chaos.running import complaint, run
from tests.chaos.schedule import draw
from tests.chaos.stage import SESSION
from tests.kafka_broker import KafkaBroker


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [2, 4])
async def test_every_promise_holds_under_every_kind_of_fault(seed: int, kafka: KafkaBroker, tmp_path: Path) -> None:
    done = await run(draw(seed, 20, SESSION), kafka, tmp_path)
    assert done.events > 100
    assert not done.findings, complaint(done, tmp_path)
