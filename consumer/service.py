"""The composition root: builds everything from the settings, runs it, and stops it in order."""

import asyncio
import platform
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka.errors import KafkaError

from consumer import kafka, kafka_outlook, service_kafka
from consumer.clients.build import open_clients
from consumer.failure import Failure
from consumer.kafka_connections import ConnectionWatch
from consumer.mapping.state import Rules
from consumer.ops import admin
from consumer.ops.metrics import Metrics
from consumer.ops.overview import Overview, Parts
from consumer.ops.recent import Recent, RememberedDeadLetters
from consumer.ops.tracing import open_tracing
from consumer.settings import Settings
from consumer.stopping import stopping
from consumer.stream.committer import Committer
from consumer.stream.giving_up import GivingUp
from consumer.stream.group import Group
from consumer.stream.intake import Intake
from consumer.stream.late_writes import LateWrites
from consumer.stream.ledger import Ledger
from consumer.stream.limits import Limits
from consumer.stream.malformed import MalformedRecords
from consumer.stream.membership import Membership
from consumer.stream.outgoing import open_outgoing
from consumer.stream.partition_starts import PartitionStarts
from consumer.stream.quota_share import QuotaShare
from consumer.stream.record_lookup import RecordLookup
from consumer.stream.source import Source
from consumer.stream.start_offsets import StartOffsets
from consumer.stream.user_queues import UserQueues
from consumer.stream.worker import RetryPolicy, Worker
from consumer.surroundings import Surroundings
from consumer.sync.controls import Controls
from consumer.sync.evidence import Evidence
from consumer.sync.freezes import Freezes
from consumer.sync.syncer import Syncer
from consumer.sync.trials import Trials

if TYPE_CHECKING:
    from consumer.stream.dead_letters import DeadLetters

_log = structlog.get_logger("service")

_FINISHING: Final = 1.5
"""Seconds of the shutdown for requests of syncs that are not stored yet."""

_SHUTDOWN_SLACK: Final = 1.0
"""Seconds after SHUTDOWN_TIMEOUT in which the process still ends in order."""


async def run(settings: Settings) -> int:
    """Consume, sync and commit until SIGTERM, SIGINT or SIGHUP; return the exit code.

    Raises:
        Failure: it cannot start, or cannot go on: Kafka, a missing topic, a port that is taken.
    """
    _log.info(
        "service.started",
        version=version("sesamy-mailmojo"),
        topic=settings.kafka.topic,
        group=settings.group_id,
        list=settings.mailmojo.list_id,
        sesamy_requests_per_minute=settings.sesamy.requests_per_minute,
        mailmojo_requests_per_second=settings.mailmojo.requests_per_second,
        dry_run=settings.sync.dry_run,
    )
    try:
        with stopping(within=settings.sync.shutdown_timeout + _SHUTDOWN_SLACK) as stop:
            async with open_service(settings) as service:
                stop.begun()
                await service.run(stop.requested)
    finally:
        _log.info("service.stopped")
    return 0


class Service:
    """The running parts."""

    def __init__(self, parts: Parts, worker: Worker, give_up: GivingUp, freezes: Freezes, trials: Trials) -> None:
        self.metrics = parts.metrics
        self.overview = Overview(parts)
        """What there is to tell of it."""
        self.admin_port = 0
        """Where the admin port listens; known once the service is open."""
        self._parts = parts
        self._worker = worker
        self._give_up = give_up
        self._freezes = freezes
        self._trials = trials

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set, then finish what is begun, commit and leave the group.

        Raises:
            Failure: Kafka refuses for good.
        """
        parts = self._parts
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(parts.queues.run(self._worker, self._give_up), name="user-queues"),
                    tasks.create_task(parts.malformed.run(), name="malformed"),
                    tasks.create_task(parts.late_writes.run(), name="late-writes"),
                    tasks.create_task(self._freezes.run(), name="freezes"),
                    tasks.create_task(self._trials.run(), name="trials"),
                    tasks.create_task(parts.share.run(), name="quota-share"),
                    tasks.create_task(self._stop_when(stopping), name="stop"),
                ]
                if self.admin_port:  # else nobody sees the history
                    helpers.append(tasks.create_task(self.overview.run(), name="overview"))
                await tasks.create_task(parts.group.run(), name="group")
                for helper in helpers:
                    helper.cancel()
        except* KafkaError as refusals:
            raise Failure(kafka.explain(parts.settings.kafka, refusals.exceptions[0])) from refusals
        finally:
            await parts.late_writes.finish(min(_FINISHING, parts.settings.sync.shutdown_timeout / 10))

    async def _stop_when(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        queues = self._parts.queues
        _log.info("service.stopping", users_in_flight=queues.in_flight, events_pending=queues.pending)
        self._parts.group.stop()


@asynccontextmanager
async def open_service(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    surroundings: Surroundings | None = None,
    consumer_options: Mapping[str, Any] | None = None,
) -> AsyncIterator[Service]:
    """Build the service, connected and listening, and close it in order.

    `surroundings` are the real ones by default. `consumer_options` are more arguments of aiokafka's consumers, for
    brokers that need them (the demo's mock).

    Raises:
        Failure: Kafka is out of reach, a topic is missing, or the admin port is taken.
    """
    metrics, more, given = metrics or Metrics(), consumer_options or {}, surroundings or Surroundings()
    clocks, rng = given.clocks, given.rng
    metrics.build_info.labels(version("sesamy-mailmojo"), platform.python_version(), settings.group_id).set(1)
    topic = settings.kafka.topic
    await kafka.require_topics(settings.kafka, given.kafka)
    async with AsyncExitStack() as stack:
        membership = Membership(settings.kafka.session_timeout, clocks.suspended)
        tracing = await stack.enter_async_context(open_tracing(settings, given.environment))
        clients = await stack.enter_async_context(
            open_clients(
                settings,
                metrics,
                write_timeout=membership.write_timeout,
                inject=tracing.inject if tracing else None,
                http=given.http,
                clocks=clocks,
            )
        )
        limits = Limits(
            max_pending=settings.sync.max_pending,
            session_timeout=settings.kafka.session_timeout,
            heartbeat_interval=kafka.heartbeat_interval(settings.kafka),
            shutdown_timeout=settings.sync.shutdown_timeout,
        )
        outgoing = await stack.enter_async_context(open_outgoing(settings, metrics, given.kafka, clocks.wall))
        cluster = await service_kafka.connect(settings, stack, limits, given.kafka)

        ledger = Ledger(metrics, clocks.wall)
        recent = Recent(clocks.wall)
        stored, is_dry = outgoing.dead_letters, settings.sync.dry_run
        dead_letters: DeadLetters = stored if is_dry else RememberedDeadLetters(stored, recent)
        malformed = MalformedRecords(dead_letters, ledger)
        late_writes = LateWrites(outgoing.request_sync, membership, clock=clocks.suspended, metrics=metrics)
        queues: UserQueues

        def retry_now(user_ids: Iterable[str]) -> None:
            queues.retry_now(user_ids)

        freezes = Freezes(clocks.suspended)
        evidence = Evidence(
            metrics,
            clock=clocks.suspended,
            wall_clock=clocks.wall,
            released=retry_now,
            frozen_since=freezes.since,
        )
        controls = Controls(clients.sesamy, clients.mailmojo, evidence)
        trials = Trials(evidence, controls, retry_now, rng)
        queues = UserQueues(
            membership,
            evidence,
            concurrency=settings.sync.concurrency,
            linger=settings.sync.linger,
            coalesce=settings.sync.coalesce,
            clock=clocks.monotonic,
            wrote=recent.wrote,
            watch=late_writes,
            dropped=evidence.forget_all,
        )
        syncer = Syncer(
            clients.sesamy,
            clients.mailmojo,
            clients.account_fields,
            rules_of(settings),
            metrics,
            controls=controls,
            dry_run=settings.sync.dry_run,
            step=tracing.step if tracing and tracing.records_spans else None,
        )
        retry = RetryPolicy(
            max_attempts=settings.sync.max_attempts,
            base=settings.sync.retry_base,
            cap=settings.sync.retry_cap,
            rng=rng,
        )
        lookup = RecordLookup(
            topic,
            partial(service_kafka.start_reader, settings, more, given.kafka, limits),
        )
        stack.push_async_callback(lookup.close)
        worker = Worker(
            syncer,
            evidence,
            controls,
            ledger,
            retry=retry,
            metrics=metrics,
            wall_clock=clocks.wall,
            new_trace=tracing.sync if tracing else None,
        )
        give_up = GivingUp(ledger, dead_letters, lookup.letter, retry, evidence.forget)
        count = partial(service_kafka.partitions, cluster, topic)
        share = QuotaShare(count, clients.set_share, timeout=limits.call_timeout)
        intake = Intake(
            queues,
            ledger,
            malformed,
            vendor_id=settings.sesamy.vendor_id,
            value_pointer=settings.kafka.value_pointer,
            clock=clocks.monotonic,
            carried=tracing.carried if tracing else None,
        )

        async def build() -> Source:
            consumer = await service_kafka.start_consumer(settings, more, given.kafka)
            starts = StartOffsets(
                consumer,
                lambda: service_kafka.layout(cluster, topic, settings.group_id),
                topic=topic,
                reset="latest" if settings.kafka.auto_offset_reset == "latest" else "earliest",
                metrics=metrics,
                clock=clocks.monotonic,
            )
            committer = Committer(
                consumer,
                ledger,
                membership,
                topic=topic,
                timeout=limits.call_timeout,
                metrics=metrics,
                leased=queues.open,
            )
            return Source(
                consumer,
                PartitionStarts(starts, timeout=limits.call_timeout, wall_clock=clocks.wall, counted=share.counted),
                intake,
                committer,
                queues=queues,
                malformed=malformed,
                ledger=ledger,
                membership=membership,
                topic=topic,
                limits=limits,
                metrics=metrics,
                share=share,
                connections=ConnectionWatch(consumer, timeout=limits.connection_timeout, clock=clocks.monotonic),
                polled=tracing.polled if tracing and tracing.records_spans else None,
            )

        group = Group(
            build,
            partial(kafka_outlook.look, settings.kafka, given.kafka),
            partial(kafka_outlook.credentials, settings.kafka),
            partial(kafka.explain, settings.kafka),
            limits=limits,
            metrics=metrics,
        )
        stack.push_async_callback(group.close)
        await group.start()
        parts = Parts(
            settings=settings,
            group=group,
            queues=queues,
            malformed=malformed,
            membership=membership,
            evidence=evidence,
            clients=clients,
            metrics=metrics,
            recent=recent,
            dead_letters=outgoing.dead_letters,
            share=share,
            late_writes=late_writes,
            clocks=clocks,
        )
        service = Service(parts, worker, give_up, freezes, trials)
        if given.has_admin_port:
            service.admin_port = await stack.enter_async_context(
                admin.serve(
                    settings.admin.host,
                    settings.admin.port,
                    service.overview,
                    metrics,
                    allowed_hosts=settings.admin.allowed_hosts,
                )
            )
        yield service


def rules_of(settings: Settings) -> Rules:
    """Return the rules of derivation that the settings ask for."""
    return Rules(
        time_zone=settings.sync.time_zone,
        list_id=settings.mailmojo.list_id,
        guest_prefixes=settings.sync.guest_prefixes,
        clear_value="" if settings.mailmojo.clear_value == "empty" else None,
    )
