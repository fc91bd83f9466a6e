from functools import partial

from tests.simulation.timeline import Timeline


def test_calls_are_made_in_the_order_of_their_times() -> None:
    timeline = Timeline(1)
    seen: list[float] = []
    for when in (3.0, 1.0, 2.0):
        timeline.at(when, lambda: seen.append(timeline.now))
    while timeline.step():
        pass
    assert seen == [1.0, 2.0, 3.0]


def test_calls_of_one_time_are_ordered_by_the_seed_and_by_nothing_else() -> None:
    def order(seed: int) -> list[int]:
        timeline = Timeline(seed)
        seen: list[int] = []
        for number in range(20):
            timeline.at(1.0, partial(seen.append, number))
        timeline.run_until(1.0)
        return seen

    assert order(7) == order(7)
    assert order(7) != order(8)
    assert sorted(order(7)) == list(range(20))


def test_a_cancelled_call_is_not_made() -> None:
    timeline = Timeline(1)
    seen: list[str] = []
    timeline.after(1.0, lambda: seen.append("kept"))
    timeline.after(1.0, lambda: seen.append("cancelled")).cancel()
    timeline.run_until(2.0)
    assert seen == ["kept"]
    assert timeline.now == 2.0
    assert not timeline.step()


def test_the_time_never_goes_back_not_even_for_a_call_that_is_late() -> None:
    timeline = Timeline(1)
    seen: list[float] = []
    timeline.run_until(10.0)
    timeline.at(3.0, lambda: seen.append(timeline.now))
    timeline.run_until(11.0)
    assert seen == [10.0]


def test_a_call_can_let_time_pass_while_it_runs() -> None:
    timeline = Timeline(1)
    seen: list[float] = []

    def wait() -> None:
        timeline.run_until(5.0)
        seen.append(timeline.now)

    timeline.at(1.0, wait)
    timeline.at(3.0, lambda: seen.append(timeline.now))
    timeline.run_until(4.0)
    assert seen == [3.0, 5.0]


def test_drawing_from_one_stream_leaves_the_others_as_they_are() -> None:
    first, second = Timeline(5), Timeline(5)
    first.stream("faults").random()
    first.rng.random()
    assert first.stream("load").random() == second.stream("load").random()
