"""The load test itself: everything started in order, the load, the wait for its end, everything stopped in order."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from consumer import files
from consumer.failure import Failure
from consumer.loadtest import environment, events, fakes
from consumer.loadtest.events import Expectation, Invented
from consumer.loadtest.evidence import Ended, Evidence, Letter
from consumer.loadtest.fakes import Fakes
from consumer.loadtest.instances import Group, Instance
from consumer.loadtest.machine import Machine, machine
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.samples import Sampler
from consumer.loadtest.sent import NUMBER, NotingSink
from consumer.loadtest.topics import OwnTopics
from consumer.replay import pace
from consumer.replay.files import FileSource
from consumer.replay.pace import Pacer
from consumer.replay.run import Replay, Summary
from consumer.replay.topics import TopicSink, TopicSource
from consumer.sandbox import RequestLog
from consumer.sandbox.population import Seed
from consumer.settings import Settings

SANDBOX: Final = "sandbox"
GENERATOR: Final = "load generator"

_VENDOR: Final = "vendor_load_test"
_READY_SECONDS: Final = 120.0
_IDLE_SECONDS: Final = 10.0
_STOP_MARGIN: Final = 10.0


class LoadTest:
    """One load test. What it tells of itself may be looked at while it runs."""

    def __init__(self, plan: LoadPlan, settings: Settings, folder: Path, *, keep: bool = False) -> None:
        """Run by this plan with these settings; files go into `folder`, and topics stay with `keep`."""
        self.phase = "connecting to Kafka"
        self._plan, self._settings, self._folder = plan, settings, folder
        self._expectation = Expectation(settings)
        self._topics = OwnTopics(settings.kafka, plan.partitions, keep=keep)
        self._group = Group()
        self._sampler: Sampler | None = None
        self._sink: NotingSink | None = None

    @property
    def kept(self) -> str:
        """What stays in Kafka, for people; empty where nothing does."""
        name = self._topics.name
        return f"topics {name} and {name}.dead-letters, group {name}" if self._topics.kept else ""

    @property
    def progress(self) -> str:
        """One line for people."""
        sent = f", {self._sink.sent.count:,} events sent" if self._sink else ""
        lag = f", {self._sampler.lag:,} not done" if self._sampler else ""
        return f"{self.phase}{sent}{lag}"

    async def run(self) -> Evidence:
        """Run it, and remove everything that it made, however it ends.

        Raises:
            Failure: it could not be carried out. A load test whose result is bad raises nothing.
        """
        try:
            evidence, requests = await self._run()
            self.phase = "judging"
            return structs.replace(evidence, log=await asyncio.to_thread(RequestLog.read, requests))
        except OSError as error:  # the disk is full, or there may be no more processes
            raise Failure(f"{self.phase}: {str(error) or type(error).__name__}") from error

    async def _run(self) -> tuple[Evidence, Path]:
        where = machine()
        async with self._topics:
            self.phase = "reading the recording"
            recording, ids = await self._recording()
            self.phase = "starting the sandbox"
            async with fakes.serve(self._folder, self._world(ids)) as sandbox, self._group:
                evidence = await self._under_load(sandbox, recording, events.people(self._plan, ids), where)
                letters = await self._letters()
                await sandbox.stop()
        return structs.replace(evidence, letters=letters), sandbox.log

    async def _recording(self) -> tuple[Path | None, list[str]]:
        source = self._plan.source
        if source is None:
            return None, []
        path = Path(source)
        if source.startswith("topic:"):
            path = self._folder / "recording.ndjson"
            await events.record_topic(self._settings, source.removeprefix("topic:"), path, self._plan.events)
        ids = await events.user_ids(path, self._expectation, self._plan.events)
        return path, ids

    def _world(self, ids: list[str]) -> list[str]:
        plan = self._plan
        if not plan.source:
            ordinary = ["--ordinary"] if plan.ordinary else []
            return ["--users", str(plan.users), "--seed", str(plan.seed), *ordinary]
        path = self._folder / "user-ids"
        files.replace(path, "\n".join(ids).encode())
        return ["--user-ids", str(path), "--seed", str(plan.seed)]

    async def _under_load(
        self, sandbox: Fakes, recording: Path | None, people: Mapping[str, Seed], where: Machine
    ) -> Evidence:
        plan, date = self._plan, datetime.now(UTC)
        self._sampler = sampler = Sampler(self._topics, self._group, {SANDBOX: sandbox.pid, GENERATOR: os.getpid()})
        pacer = Pacer(self._due(), time.monotonic)
        topic = TopicSink(self._topics.settings, self._topics.name, pacer.acknowledged)
        sink = NotingSink(
            topic,
            pacer,
            self._expectation,
            people,
            change=sandbox.change,
            share=plan.changes,
            seed=plan.seed,
        )
        if not plan.backlog:
            await self._start(sandbox)
            await sandbox.set_faults(plan.faults_of_the_fakes())
        async with topic, beside(sampler.run(), sink.run()):
            self._sink = sink
            self.phase = "replaying"
            summary = await self._replay(recording, sink, pacer)
            published_at = time.monotonic()
            if not sink.sent.count:
                raise Failure(f"{plan.source} holds no record: there is nothing to replay")
            if plan.backlog:
                await sandbox.set_faults(plan.faults_of_the_fakes())
                await self._start(sandbox)
            self.phase = "waiting for the last commit"
            stored = sink.sent.count
            committed = await sampler.until(lambda it: it.records == stored and it.lag == 0, plan.within)
            await self._group.idle(_IDLE_SECONDS)
        died = [instance for instance in self._group.instances if instance.exit_code is not None]
        self.phase = "stopping the instances"
        await self._group.stop(self._settings.sync.shutdown_timeout + _STOP_MARGIN)
        return Evidence(
            date=date.strftime("%Y-%m-%d %H:%M UTC"),
            machine=where,
            plan=plan.for_report(events=stored, users=plan.users or len(sink.sent.users)),
            sent=sink.sent,
            instances=[
                Ended(name=it.name, exit_code=it.exit_code or 0, died=it in died, metrics=it.metrics)
                for it in self._group.instances
            ],
            samples=sampler.samples,
            published_at=published_at,
            lateness=summary.lateness_most,
            committed=committed,
            records=sampler.samples[-1].records,
            lag=sampler.lag,
        )

    async def _start(self, sandbox: Fakes) -> None:
        plan = self._plan
        self.phase = f"starting {plan.instances} instances"
        for number in range(1, plan.instances + 1):
            env = environment.of_instance(self._settings, plan, sandbox.environment, self._topics.name, number)
            self._group.instances.append(Instance(number, self._folder, env))
        await self._group.ready(plan.partitions, _READY_SECONDS)

    async def _replay(self, recording: Path | None, sink: NotingSink, pacer: Pacer) -> Summary:
        plan = self._plan
        if recording is None:
            vendor = self._settings.sesamy.vendor_id or _VENDOR
            return await Replay(Invented(plan, vendor), sink, pacer).run(events.whole)
        async with FileSource(recording) as source:
            return await Replay(source, sink, pacer, limit=plan.events or None).run(events.whole)

    def _due(self) -> pace.Due:
        if self._plan.rate:
            return pace.at_rate(self._plan.rate)
        return pace.at_speed(self._plan.speed) if self._plan.speed else pace.at_once

    async def _letters(self) -> list[Letter]:
        letters = []
        async with TopicSource(self._settings.kafka, f"{self._topics.name}.dead-letters") as source:
            async for batch in source.batches():
                for record in batch:
                    headers = dict(record.headers)
                    number = headers.get(NUMBER)
                    reason = (headers.get("dead-letter-reason") or b"").decode()
                    user_id = self._expectation.of(record)[0] or (record.key or b"").decode(errors="replace")
                    letters.append(Letter(reason, user_id, int(number) if number else -1))
        return letters


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do these while the block runs; a failure of one ends it."""
    async with asyncio.TaskGroup() as tasks:
        begun = [tasks.create_task(work) for work in works]
        yield
        for task in begun:
            task.cancel()
