from tests.simulation.reducing import reduce
from tests.simulation.scenario import Kill, Scenario, draw


def test_what_a_world_fails_without_is_left_out() -> None:
    scenario = next(it for it in map(draw, range(100)) if sum(isinstance(fault, Kill) for fault in it.faults) > 1)
    tried = 0

    def fails(candidate: Scenario) -> bool:
        nonlocal tried
        tried += 1
        return any(isinstance(fault, Kill) for fault in candidate.faults) and candidate.partitions > 0

    smallest = reduce(scenario, fails)
    assert [type(fault) for fault in smallest.faults] == [Kill]
    assert (smallest.instances, smallest.partitions, smallest.poisoned, smallest.skew) == (1, 1, False, 0.0)
    assert smallest.events <= 5
    assert tried < 60


def test_a_scenario_is_drawn_from_its_seed_alone() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert len(draw(7, faults=8).faults) == 8
    assert draw(7, instances=3).instances == 3
