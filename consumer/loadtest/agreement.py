"""Whether the program's own counters say what the sandbox's log and the topics say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from consumer.loadtest.evidence import Evidence
from consumer.loadtest.instances import Metrics
from consumer.loadtest.report import Agreement, Requests
from consumer.loadtest.syncs import Sync
from consumer.sandbox.log import CUT

_NAMES: Final = {
    ("token", "token"): ("sesamy", "get_token"),
    ("mailmojo", "post_subscriber"): ("mailmojo", "add_subscriber"),
    ("mailmojo", "swagger"): ("mailmojo", "get_description"),
}
"""What the program's metrics call the log's API and operation, where that differs."""

_ERROR: Final = "error"
"""The program's status of a request whose answer it did not get, or not in time."""


def total(evidence: Evidence) -> Metrics:
    """Return the counters of all instances, added up."""
    return Metrics.total([instance.metrics for instance in evidence.instances])


def requests(evidence: Evidence) -> list[Requests]:
    """Return every kind of request with both counts."""
    seen: Counter[tuple[str, ...]] = Counter()
    for record in evidence.log.records:
        api, operation = _NAMES.get((record.api, record.operation), (record.api, record.operation))
        seen[api, operation, _ERROR if record.status == CUT else str(record.status)] += 1
    counted = total(evidence).by("api_requests_total", "api", "operation", "status")
    return [
        Requests(api=api, operation=operation, status=status, log=seen[kind], program=counted[kind])
        for kind in sorted(seen.keys() | counted.keys())
        for api, operation, status in [kind]
    ]


def lines(evidence: Evidence, syncs: Mapping[str, Sequence[Sync]]) -> list[Agreement]:
    """Return what was counted twice. Where an instance died, its last moments are missing from the program's side."""
    counted = total(evidence)
    return [
        *_requests(requests(evidence)),
        *_events(evidence, counted),
        *_syncs(counted, syncs),
        *_dead_letters(evidence, counted),
    ]


def _requests(kinds: Sequence[Requests]) -> list[Agreement]:
    """Compare each kind exactly.

    A request without an answer (`error`) may have reached the API and been answered, late, or not have reached it. So
    where there are such ones, the log may have that many more answers of the operation than the program got.
    """
    found = []
    for api, operation in dict.fromkeys((kind.api, kind.operation) for kind in kinds):
        here = [kind for kind in kinds if (kind.api, kind.operation) == (api, operation)]
        errors = sum(kind.program for kind in here if kind.status == _ERROR)
        answered = [kind for kind in here if kind.status != _ERROR]
        more = sum(kind.log for kind in here) - sum(kind.program for kind in answered)
        for kind in here if not errors else answered:
            agrees = kind.log == kind.program if not errors else kind.log >= kind.program and more <= errors
            unheard = f", {kind.log - kind.program:,} of them not heard in time" if agrees and errors else ""
            what = f"requests: {api} {operation} {kind.status}{unheard if kind.log > kind.program else ''}"
            found.append(Agreement(what=what, program=kind.program, seen=kind.log, agrees=agrees))
    return found


def _events(evidence: Evidence, counted: Metrics) -> list[Agreement]:
    outcomes = counted.by("events_total", "outcome")
    found = [
        _exactly("records in the topic: done by the program", outcomes.total(), evidence.records),
        _exactly("records in the topic: sent by the load generator", evidence.sent.count, evidence.records),
    ]
    # A guest by the id asks for no request, one by the profile does; the program counts both alike.
    expected = Counter(evidence.sent.others)
    for user in evidence.sent.users.values():
        if user.skipped:
            expected[user.skipped] += len(user.sent_at)
    # A fault may be a 404, which makes a user unknown.
    told = {outcome for (outcome,), count in outcomes.items() if count and not evidence.plan.faults}
    for outcome in sorted(name for name in expected.keys() | told if name.startswith("skipped_")):
        # Events that waited together are answered by one sync: the newest has the outcome, the others are coalesced.
        least = evidence.sent.others[outcome] if outcome != "skipped_guest" else 0
        program = outcomes[outcome,]
        agrees = least <= program <= expected[outcome] and bool(program) == bool(expected[outcome])
        found.append(Agreement(what=f"events: {outcome}", program=program, seen=expected[outcome], agrees=agrees))
    return found


def _syncs(counted: Metrics, syncs: Mapping[str, Sequence[Sync]]) -> list[Agreement]:
    """Compare the syncs that wrote. One that failed after a write that took effect does not count for the program."""
    wrote = sum(sync.wrote for several in syncs.values() for sync in several)
    ended = counted.by("syncs_total", "outcome")
    program = ended["created",] + ended["updated",]
    agrees = program <= wrote <= program + ended["failed",]
    return [Agreement(what="syncs that wrote", program=program, seen=wrote, agrees=agrees)]


def _dead_letters(evidence: Evidence, counted: Metrics) -> list[Agreement]:
    seen = Counter(letter.reason for letter in evidence.letters)
    program = counted.by("dead_letters_total", "reason")
    return [
        _exactly(f"dead letters: {reason}", program[reason,], seen[reason])
        for reason in sorted({reason for (reason,) in program} | seen.keys())
    ]


def _exactly(what: str, program: int, seen: int) -> Agreement:
    return Agreement(what=what, program=program, seen=seen, agrees=program == seen)
