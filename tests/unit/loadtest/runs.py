"""A load test's evidence, made by hand: two users, three events, one instance, and everything as it should be."""

import itertools
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.loadtest.evidence import Ended, Evidence
from consumer.loadtest.instances import Metrics
from consumer.loadtest.machine import Machine
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.samples import Sample, Usage
from consumer.loadtest.sent import Sent, UserEvents
from consumer.sandbox import Record, RequestLog

ANN, BOB = "email|ann", "email|bob"
MACHINE = Machine(cpu="CPU", cores=2, memory_gib=4, system="Linux 6", python="3.11", program="0.1.0", load_average=0.25)
PLAN = LoadPlan(events=3, users=2, rate=1.0, instances=1)

_changes = itertools.count(1)


def record(start: float, end: float, **fields: Any) -> Record:
    usual = {"number": 0, "api": "sesamy", "operation": "get_user", "method": "GET", "path": "/", "status": 200}
    return Record(**{**usual, "start": start, "end": end, "start_unix": start, "end_unix": end, **fields})


def read(user_id: str, start: float, version: int = 1, **fields: Any) -> Record:
    return record(start, start + 0.1, user_id=user_id, user_version=version, **fields)


def contact(user_id: str, start: float, version: int | None, /, **fields: Any) -> Record:
    about = {"api": "mailmojo", "operation": "get_contact", "address": address(user_id), "user_version": version}
    return record(start, start + 0.1, **{**about, **fields})


def write(user_id: str, start: float, version: int = 1, **fields: Any) -> Record:
    about = {"operation": "patch_contact", "method": "PATCH", "write": True, "change": next(_changes)}
    return contact(user_id, start, version, **{**about, "user_id": user_id, **fields})


def sync(user_id: str, start: float, version: int = 1) -> list[Record]:
    """Half a second that ends in a write."""
    return [read(user_id, start, version), contact(user_id, start + 0.2, None), write(user_id, start + 0.4, version)]


def address(user_id: str) -> str:
    return f"{user_id.removeprefix('email|')}@example.no"


def events(user_id: str, *times: float, versions: Sequence[int] = (), late: float = 0.0, **fields: Any) -> UserEvents:
    """Events meant for these times and sent so much later."""
    return UserEvents(
        **{"address": address(user_id), **fields},
        meant_at=array("d", times),
        sent_at=array("d", [at + late for at in times]),
        versions=array("q", versions or [1] * len(times)),
    )


def log_of(records: Sequence[Record]) -> RequestLog:
    log = RequestLog()
    numbered = sorted(records, key=lambda record: record.end)
    log.extend(
        Record(**{name: getattr(one, name) for name in Record.__struct_fields__} | {"number": number})
        for number, one in enumerate(numbered, 1)
    )
    return log


def counters(records: Sequence[Record], **more: float) -> Metrics:
    """The counters of a program that made these requests and did three events in three syncs."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {
        ("events_total", frozenset({"type": "x", "outcome": "synced"}.items())): 3,
        ("syncs_total", frozenset({"outcome": "updated"}.items())): 3,
    }
    for one in records:
        labels = {"api": one.api, "operation": one.operation, "status": str(one.status or "error")}
        kind = ("api_requests_total", frozenset(labels.items()))
        values[kind] = values.get(kind, 0) + 1
    for name, value in more.items():
        values[name, frozenset()] = value
    return Metrics(values)


RECORDS = [*sync(ANN, 100.2), *sync(BOB, 101.2), *sync(ANN, 102.2, version=2)]
"""Syncs of 0.5 seconds that begin 0.2 seconds after their events were to be sent."""


def right_run(
    *,
    users: Mapping[str, UserEvents] | None = None,
    records: Sequence[Record] = RECORDS,
    metrics: Metrics | None = None,
    **changes: Any,
) -> Evidence:
    users = users or {ANN: events(ANN, 100, 102, versions=[1, 2], version=2), BOB: events(BOB, 101)}
    ended = Ended(name="instance 1", exit_code=0, died=False, metrics=metrics or counters(records))
    samples = [
        Sample(100.0, 0, 0, {"instance 1": Usage(1.0, 50, 50), "sandbox": Usage(1.0, 40, 40)}),
        Sample(102.0, 3, 2, {"instance 1": Usage(2.0, 60, 65), "sandbox": Usage(1.5, 40, 40)}),
        Sample(103.0, 3, 0, {"instance 1": Usage(2.5, 55, 65), "sandbox": Usage(2.0, 40, 40)}),
    ]
    usual: dict[str, Any] = {
        "date": "2026-01-01 12:00 UTC",
        "plan": PLAN,
        "machine": MACHINE,
        "sent": Sent(users=dict(users), began=100.0),
        "log": log_of(records),
        "instances": [ended],
        "samples": samples,
        "published_at": 102.0,
        "lateness": 0.01,
        "committed": True,
        "records": 3,
        "lag": 0,
    }
    return Evidence(**{**usual, **changes})
