"""The benchmarks measure what they say; how fast anything is depends on the machine and is asserted nowhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.contestants import (
    BARE,
    COALESCING,
    CONNECTIONS,
    FRANZ,
    GROUPED,
    PARALLEL,
    SERVICE,
    Contestant,
    build,
)
from tests.benchmarks.fake_process import serve_fake
from tests.benchmarks.kills import kill
from tests.benchmarks.loads import Load
from tests.benchmarks.runner import Site
from tests.benchmarks.turns import Results, race
from tests.http_clients import needs_connection_client
from tests.kafka_broker import KafkaBroker

TINY = Load(latency=0.01, events=40, users=20)
FLEET = Load(latency=0.01, events=40, users=20, instances=2)
HOT = Load(latency=0.01, events=100, users=100, hot=True)


@pytest.fixture
async def site(kafka: KafkaBroker, tmp_path: Path) -> AsyncIterator[Site]:
    async with serve_fake(tmp_path) as fake:
        yield Site(kafka, fake, tmp_path)


@pytest.mark.timeout(300)  # Maven and Go may have to fetch libraries first
@pytest.mark.parametrize(
    "contestant",
    [SERVICE, pytest.param(CONNECTIONS, marks=needs_connection_client), BARE, GROUPED, PARALLEL, FRANZ],
    ids=lambda one: one.name,
)
async def test_an_event_makes_six_requests_and_no_user_has_two_syncs_at_once(
    contestant: Contestant, site: Site
) -> None:
    if problems := await asyncio.to_thread(build, [contestant]):
        pytest.skip(problems[contestant.name])
    loads = [TINY, FLEET] if "fleet" in contestant.kinds else [TINY]
    results = Results()
    await race(loads, [_soon(contestant)], 1, site, results)
    assert results.dropped == []
    for turn in results.turns:
        assert (turn.events, turn.requests, turn.violations) == (40, 240, 0)
        assert turn.seconds > 5 * TINY.latency
        assert turn.cpu >= 0
        assert turn.peak_rss > 5
    assert [turn.load for turn in results.turns] == loads


async def test_events_of_few_users_are_answered_together(site: Site) -> None:
    results = Results()
    await race([HOT], [_soon(SERVICE), _soon(COALESCING)], 1, site, results)
    assert results.dropped == []
    each, together = results.turns
    assert each.requests == 600
    assert together.requests < 600


async def test_after_kill_9_no_event_is_left_out(site: Site) -> None:
    done = await kill(_soon(SERVICE), site, events=300)
    assert done.in_flight <= 64
    assert done.redone >= 0


def _soon(contestant: Contestant) -> Contestant:
    return msgspec.structs.replace(contestant, warm_up=20)
