import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clients.quota import Permits, QuotaGate
from consumer.ops.metrics import Metrics
from tests.unit.virtual_time import run


def open_gate(rate: float, burst: float, **options: Any) -> QuotaGate:
    return QuotaGate("sesamy", rate, burst, metrics=Metrics(), **options)


def now() -> float:
    return asyncio.get_running_loop().time()


def assert_within(sent: Sequence[float], rate: float, burst: float) -> None:
    """Fail unless every window between two requests holds at most burst + rate * t of them.

    One pass instead of all pairs: the bound is broken if and only if the leaky level ever exceeds the burst.
    """
    level, last = 0.0, 0.0
    for moment in sorted(sent):
        level = max(0.0, level - rate * (moment - last)) + 1
        last = moment
        assert level <= burst + 1e-6, f"too many by {moment}: {level} in a bucket of {burst}"


@pytest.mark.parametrize(
    ("rate", "burst", "permits", "calls", "latency"),
    [
        (100 / 60, 20, 4, (1, 2, 1), 0.3),
        (100 / 60, 20, 4, (1,), 0.1),
        (5, 5, 2, (1, 1), 0.1),
        (1000, 100, 2, (1, 1), 0.01),
        (1, 1, 2, (1, 1), 0.1),
        (2, 3.5, 4, (1, 2, 1), 0.2),
    ],
)
def test_uses_the_rate_when_there_is_always_work(
    rate: float, burst: float, permits: int, calls: tuple[int, ...], latency: float
) -> None:
    sent: list[float] = []

    async def scenario() -> float:
        gate = open_gate(rate, burst)

        async def work() -> None:
            while True:
                async with gate.turn(permits) as turn:
                    for at_once in calls:
                        async with asyncio.TaskGroup() as group:
                            for _ in range(at_once):
                                group.create_task(send(turn))

        async def send(turn: Permits) -> None:
            await turn.spend()
            sent.append(now())
            await asyncio.sleep(latency)

        seconds = max(60, 2000 / rate)
        workers = [asyncio.create_task(work()) for _ in range(64)]
        await asyncio.sleep(seconds)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return seconds

    seconds = run(scenario())
    assert_within(sent, rate, burst)
    assert len(sent) >= 0.98 * rate * (seconds - burst / rate)


def test_begins_with_an_empty_bucket_unless_told_otherwise() -> None:
    async def first_requests(**options: Any) -> list[float]:
        gate = open_gate(1, 3, **options)
        sent = []
        for _ in range(5):
            async with gate.turn(1) as turn:
                await turn.spend()
                sent.append(round(now(), 6))
        return sent

    assert run(first_requests()) == [1, 2, 3, 4, 5]
    assert run(first_requests(stored_burst=True)) == [0, 0, 0, 1, 2]


def test_a_held_permit_never_leaks_away_however_late_it_is_spent() -> None:
    async def scenario() -> list[float]:
        gate = open_gate(1, 4, stored_burst=True)
        sent = []

        async def burst() -> None:
            async with gate.turn(1) as turn:
                await turn.spend()
                sent.append(now())

        async with asyncio.TaskGroup() as group, gate.turn(3) as held:
            await asyncio.sleep(100)
            for _ in range(4):
                group.create_task(burst())
            await asyncio.sleep(0)
            for _ in range(3):
                await held.spend()
                sent.append(now())
        return sent

    sent = run(scenario())
    assert sent[:4] == [100, 100, 100, 100]
    assert_within(sent, 1, 4)


def test_what_was_not_spent_goes_to_the_next_in_line_at_once() -> None:
    async def scenario() -> float:
        gate = open_gate(1, 4, stored_burst=True)

        async def follower() -> float:
            async with gate.turn(3) as turn:
                await turn.spend()
                return now()

        async with gate.turn(4) as turn:
            waiting = asyncio.create_task(follower())
            await turn.spend()
            await asyncio.sleep(0.1)
            assert not waiting.done()
        return await waiting

    assert run(scenario()) == 0.1


def test_what_one_turn_holds_no_other_takes_beyond_its_own() -> None:
    async def scenario() -> float:
        gate = open_gate(1, 3, stored_burst=True)

        async def greedy() -> float:
            async with gate.turn(1) as turn:
                for _ in range(3):
                    await turn.spend()
                return now()

        async with gate.turn(2) as held, asyncio.TaskGroup() as group:
            other = group.create_task(greedy())
            await asyncio.sleep(0.5)
            await held.spend()
            await held.spend()
            assert now() == 0.5
        return await other

    assert run(scenario()) == pytest.approx(2)


def test_ready_waits_instead_of_the_spend_that_follows() -> None:
    async def scenario() -> list[float]:
        gate = open_gate(0.1, 1)
        moments = []
        async with gate.turn(2) as turn:
            await turn.spend()
            for _ in range(2):
                await turn.ready()
                moments.append(now())
            await turn.spend()
            moments.append(now())
            gate.close(60)
            await turn.ready()
            moments.append(now())
            await turn.spend()
            moments.append(now())
        return moments

    assert run(scenario()) == [20, 20, 20, 80, 80]


def test_turns_are_served_in_the_order_they_came_whatever_their_size() -> None:
    async def scenario() -> list[str]:
        gate = open_gate(1, 5)
        order = []

        async def take(name: str, permits: int) -> None:
            async with gate.turn(permits) as turn:
                for _ in range(permits):
                    await turn.spend()
                order.append(name)

        async with asyncio.TaskGroup() as group:
            for name, permits in (("a", 1), ("b", 5), ("c", 1), ("d", 2)):
                group.create_task(take(name, permits))
        return order

    assert run(scenario()) == ["a", "b", "c", "d"]


def test_a_turn_under_way_is_finished_before_another_begins() -> None:
    async def scenario() -> tuple[list[str], float]:
        gate = open_gate(1, 1)
        order = []

        async def pair(name: str) -> None:
            async with gate.turn(2) as turn:
                for call in "gp":
                    await turn.spend()
                    order.append(name + call)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(pair(name))
        return order, now()

    assert run(scenario()) == (["ag", "ap", "bg", "bp", "cg", "cp"], 6)


def test_calls_of_one_turn_beyond_its_permits_are_all_served_one_after_the_other() -> None:
    async def scenario() -> float:
        gate = open_gate(1, 1, stored_burst=True)
        async with gate.turn(1) as turn, asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(turn.spend())
        return now()

    assert run(scenario()) == 2


def test_closing_holds_turns_and_held_permits_and_is_only_ever_extended() -> None:
    async def scenario() -> float:
        gate = open_gate(10, 10, stored_burst=True)
        async with gate.turn(2) as turn:
            gate.close(60)
            gate.close(1)
            assert gate.closed_for() == 60
            await turn.spend()
            assert now() == 60
        async with gate.turn(1) as turn:
            assert gate.closed_for() == 0
            await turn.spend()
        return now()

    assert run(scenario()) == 60


def test_share_0_lets_nothing_through_until_it_grows() -> None:
    async def scenario() -> float:
        gate = open_gate(10, 10, share=0)

        async def one() -> float:
            async with gate.turn(2) as turn:
                await turn.spend()
                return now()

        waiting = asyncio.create_task(one())
        await asyncio.sleep(1000)
        assert not waiting.done()
        gate.set_share(0.5)
        return await waiting

    assert run(scenario()) == pytest.approx(1000.4)  # two permits at 5 a second, from an empty bucket


def test_a_permit_held_when_the_share_went_waits_for_it_to_come_back() -> None:
    async def scenario() -> float:
        gate = open_gate(10, 10, stored_burst=True)
        async with gate.turn(4) as turn:
            gate.set_share(0)
            spending = asyncio.create_task(turn.spend())
            await asyncio.sleep(50)
            assert not spending.done()
            gate.set_share(1)
            await spending
            return now()

    assert run(scenario()) == 50


def test_a_share_smaller_than_one_permit_still_lets_single_requests_through() -> None:
    async def scenario() -> float:
        gate = open_gate(5, 5, share=0.05)
        async with gate.turn(2) as turn:
            await turn.spend()
            await turn.spend()
        return now()

    assert run(scenario()) == pytest.approx(8)  # two permits at a quarter of one a second


def test_a_share_that_shrinks_goes_on_at_its_new_rate_at_once() -> None:
    async def scenario() -> float:
        gate = open_gate(5, 100)
        gate.set_share(0.2)
        async with gate.turn(1) as turn:
            await turn.spend()
        return now()

    assert run(scenario()) == pytest.approx(1)


def test_an_idle_instance_saves_up_its_share_of_the_burst_and_no_more() -> None:
    async def scenario() -> list[float]:
        gate = open_gate(1, 8)
        gate.set_share(0.25)
        await asyncio.sleep(1000)
        sent = []
        for _ in range(4):
            async with gate.turn(1) as turn:
                await turn.spend()
                sent.append(round(now() - 1000, 6))
        return sent

    assert run(scenario()) == [0, 0, 4, 8]  # two at once, then a quarter of one a second


def test_instances_stay_within_the_accounts_quota_while_shares_move() -> None:
    rate, burst = 5, 12
    sent: list[float] = []

    async def scenario() -> None:
        gates = [open_gate(rate, burst, share=share, stored_burst=share == 1) for share in (1, 0, 0)]

        async def work(gate: QuotaGate) -> None:
            while True:
                async with gate.turn(3) as turn:
                    for _ in range(3):
                        await turn.spend()
                        sent.append(now())
                        await asyncio.sleep(0.5)

        workers = [asyncio.create_task(work(gate)) for gate in gates for _ in range(10)]
        for shares in ((0.5, 0.5, 0), (1 / 3, 1 / 3, 1 / 3), (0, 2 / 3, 1 / 3), (0, 0, 1), (1, 0, 0)):
            await asyncio.sleep(7.3)
            for gate, share in zip(gates, shares, strict=True):
                gate.set_share(share)
        await asyncio.sleep(7.3)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(scenario())
    assert_within(sent, rate, burst)
    assert len(sent) > 100


def test_the_wait_for_permits_and_the_share_are_metrics() -> None:
    async def scenario() -> tuple[float | None, float | None]:
        metrics = Metrics()
        gate = QuotaGate("mailmojo", 1, 5, metrics=metrics, share=0.5)
        async with gate.turn(1) as turn:
            await turn.spend()
        sample = metrics.registry.get_sample_value
        return (
            sample("sesamy_mailmojo_rate_limit_wait_seconds_sum", {"api": "mailmojo"}),
            sample("sesamy_mailmojo_quota_share", {"api": "mailmojo"}),
        )

    assert run(scenario()) == (2, 0.5)


actors = st.lists(
    st.fixed_dictionaries(
        {
            "start": st.floats(0, 20),
            "permits": st.integers(1, 6),
            "spends": st.lists(
                st.tuples(st.floats(0, 3), st.booleans()), max_size=8
            ),  # after so long; not sent after all
            "cancel_after": st.none() | st.floats(0, 10),
        }
    ),
    min_size=1,
    max_size=15,
)
closures = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=3)
shares = st.lists(st.tuples(st.floats(0, 20), st.sampled_from([0, 0.25, 0.5, 1])), max_size=3)


@given(rate=st.floats(0.2, 20), burst=st.floats(1, 12), actors=actors, closures=closures, shares=shares)
def test_no_window_holds_more_than_the_bound_and_no_permit_is_lost(
    rate: float,
    burst: float,
    actors: list[dict[str, Any]],
    closures: list[tuple[float, float]],
    shares: list[tuple[float, float]],
) -> None:
    sent: list[float] = []
    closed: list[tuple[float, float]] = []

    async def scenario() -> None:
        gate = open_gate(rate, burst, stored_burst=True)

        async def act(actor: dict[str, Any]) -> None:
            await asyncio.sleep(actor["start"])
            async with gate.turn(actor["permits"]) as turn, asyncio.TaskGroup() as group:
                for pause, refused in actor["spends"]:
                    group.create_task(spend_after(turn, pause, refused=refused))

        async def spend_after(turn: Permits, pause: float, *, refused: bool) -> None:
            await asyncio.sleep(pause)
            await turn.spend()
            if refused:
                turn.unspend()
            else:
                sent.append(now())

        async def cancel(task: asyncio.Task[None], after: float) -> None:
            await asyncio.sleep(after)
            task.cancel()

        async def close(at: float, seconds: float) -> None:
            await asyncio.sleep(at)
            gate.close(seconds)
            closed.append((now(), now() + seconds))

        async def share(at: float, fraction: float) -> None:
            await asyncio.sleep(at)
            gate.set_share(fraction)

        tasks = []
        for actor in actors:
            task = asyncio.create_task(act(actor))
            tasks.append(task)
            if actor["cancel_after"] is not None:
                tasks.append(asyncio.create_task(cancel(task, actor["start"] + actor["cancel_after"])))
        tasks += [asyncio.create_task(close(*closure)) for closure in closures]
        tasks += [asyncio.create_task(share(*change)) for change in shares]
        await asyncio.sleep(30)
        gate.set_share(1)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

        # Whatever happened, after a rest the whole capacity is there again.
        await asyncio.sleep(burst / rate + 1)
        rested = now()
        async with gate.turn(int(burst)) as turn:
            for _ in range(int(burst)):
                await turn.spend()
                sent.append(now())
        assert now() == rested

    run(scenario())
    assert_within(sent, rate, burst)
    for start, end in closed:
        assert not [moment for moment in sent if start < moment < end - 1e-6]


def test_a_turn_cancelled_in_the_moment_it_is_granted_gives_everything_back() -> None:
    async def scenario() -> float:
        gate = open_gate(1, 2, stored_burst=True)
        async with gate.turn(2):

            async def enter() -> None:
                async with gate.turn(2):
                    raise AssertionError("must not get in")

            waiting = asyncio.create_task(enter())
            await asyncio.sleep(0)
        waiting.cancel()  # granted by the line above, not yet running
        await asyncio.gather(waiting, return_exceptions=True)
        async with gate.turn(2) as turn:
            await turn.spend()
            await turn.spend()
        return now()

    assert run(scenario()) == 0


def test_a_spend_cancelled_in_the_moment_it_is_granted_gives_its_permit_back() -> None:
    async def scenario() -> tuple[float, bool]:
        gate = open_gate(1, 1, stored_burst=True)
        async with gate.turn(1) as turn:
            await turn.spend()
            spending = asyncio.create_task(turn.spend())
            asyncio.get_running_loop().call_at(1, lambda: asyncio.get_running_loop().call_soon(spending.cancel))
            await asyncio.gather(spending, return_exceptions=True)
            assert now() == 1
            await turn.spend()
            return now(), spending.cancelled()

    assert run(scenario()) == (1, True)
