"""Makes a failing world smaller: faults, instances and load that it fails without are left out."""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from tests.simulation.scenario import Scenario


def reduce(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Return the smallest scenario that was found to fail still; `fails` runs one."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(scenario):
            if fails(candidate):
                scenario, smaller = candidate, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    faults = scenario.faults
    if len(faults) > 3:
        half = len(faults) // 2
        yield replace(scenario, faults=faults[half:])
        yield replace(scenario, faults=faults[:half])
    for number in range(len(faults)):
        yield replace(scenario, faults=faults[:number] + faults[number + 1 :])
    if scenario.poisoned:
        yield replace(scenario, poisoned=False)
    if scenario.skew:
        yield replace(scenario, skew=0.0)
    if scenario.instances > 1:
        yield replace(scenario, instances=scenario.instances - 1)
    if scenario.partitions > 1:
        yield replace(scenario, partitions=max(1, scenario.partitions // 2))
    if scenario.events > 5:
        yield replace(scenario, events=scenario.events // 2)
