"""Runs a world and asks whether every promise held; the checks of the promises are those of the chaos tests."""

import gc
import traceback
from typing import Any

from aiokafka.errors import KafkaError

from consumer.sandbox import Quota
from consumer.sandbox.faults import ApiName
from tests.chaos.findings import findings
from tests.simulation.scenario import Scenario
from tests.simulation.world import Outcome, Simulation


def simulate(scenario: Scenario, *, keep_trace: bool = False) -> Outcome:
    """Run the world of a scenario to its end and return what is wrong with it; nothing in a right one."""
    gc.disable()  # a coroutine of a crashed process is collected at the end, never in between
    gc.freeze()  # what is there already, modules above all, is not looked at again
    world = Simulation(scenario, keep_trace=keep_trace)
    found: list[str] = []
    try:
        world.run()
    except Exception:  # noqa: BLE001 - the simulator's own fault, or an assertion in it
        found.append(f"the simulation failed: {traceback.format_exc()}")
    found += world.findings
    found += findings(world.evidence(), world.poisoned, _quotas(scenario), late=world.faulting.late)
    for process in world.processes:
        name = process.host.name
        if sentinels := process.sentinels():
            found.append(f"{name}: its sentinels say {sentinels:g}")
        found += [f"{name}: {failure}" for failure in map(_failure, process.host.failures) if failure]
    found += [f"a log line that no right program writes: {line}" for line in world.trace.faults]
    outcome = Outcome(
        scenario=scenario,
        findings=tuple(found),
        hash=world.trace.hash,
        steps=world.timeline.steps,
        events=len(world.sent),
        requests=world.apis.sandbox.log.count,
        drained_after=world.drained_after,
        trace=world.trace.lines,
    )
    world.close()
    del world
    gc.collect()
    gc.unfreeze()
    gc.enable()
    return outcome


def _failure(told: dict[str, Any]) -> str | None:
    """Return what reached a loop's exception handler, unless it is aiokafka that did not look at its own tasks."""
    if isinstance(told.get("exception"), KafkaError) and "never retrieved" in told["message"]:
        return None
    return f"{told['message']}: {told.get('exception')!r}"


def _quotas(scenario: Scenario) -> dict[ApiName, Quota]:
    rate = float(scenario.settings["SESAMY_REQUESTS_PER_MINUTE"]) / 60
    return {
        "sesamy": Quota(rate, float(scenario.settings["SESAMY_BURST"])),
        "mailmojo": Quota(
            float(scenario.settings["MAILMOJO_REQUESTS_PER_SECOND"]), float(scenario.settings["MAILMOJO_BURST"])
        ),
    }
