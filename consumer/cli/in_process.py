"""`sync --direct` and `sync --dry-run`: syncs in this process, one after the other."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiokafka.admin import AIOKafkaAdminClient

from consumer import kafka
from consumer.cli.sync_result import Result, outcome_of
from consumer.clients.build import open_clients
from consumer.clients.errors import ApiError
from consumer.failure import Failure
from consumer.mapping.instants import UnreadableState
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings
from consumer.sync.flight import LoneFlight
from consumer.sync.syncer import Syncer


async def sync_here(settings: Settings, user_ids: Sequence[str], results: list[Result], *, dry_run: bool) -> None:
    """Sync these users, or with `dry_run` find what would be written, and append the result of each to `results`.

    Raises:
        Failure: the group has members (they may sync the same users), or Kafka cannot tell.
    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        admin = None if dry_run else await stack.enter_async_context(kafka.admin(settings.kafka))
        if admin:
            await _refuse_beside_service(settings, admin)
        clients = await stack.enter_async_context(open_clients(settings, metrics))
        clients.set_share(1.0)
        rules = rules_of(settings)
        syncer = Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules, metrics, dry_run=dry_run)
        for user_id in user_ids:
            if admin:
                await _refuse_beside_service(settings, admin)
            try:
                results.append(await (_preview(syncer, user_id) if dry_run else _sync(syncer, user_id)))
            except (ApiError, UnreadableState) as error:
                results.append(Result(user_id, "failed", detail=mask_addresses(str(error))))


async def _refuse_beside_service(settings: Settings, admin: AIOKafkaAdminClient) -> None:
    if members := await kafka.group_members(admin, settings.kafka.group_id):
        raise Failure(
            f"--direct would sync beside the service: group {settings.kafka.group_id} has {members} member(s); "
            "stop the service, or leave out --direct to ask it through the topic"
        )


async def _sync(syncer: Syncer, user_id: str) -> Result:
    flight = LoneFlight()
    outcome = await syncer.sync(user_id, flight)
    return Result(
        user_id,
        *outcome_of(outcome.value),
        fields=tuple(dict.fromkeys(name for audit in flight.audits for name in audit.fields)),
        tags_added=tuple(dict.fromkeys(tag for audit in flight.audits for tag in audit.tags_added)),
        tags_removed=tuple(dict.fromkeys(tag for audit in flight.audits for tag in audit.tags_removed)),
    )


async def _preview(syncer: Syncer, user_id: str) -> Result:
    preview = await syncer.preview(user_id)
    if preview.plan is None:
        return Result(user_id, *outcome_of(preview.outcome.value))
    plan = preview.plan
    status = "unchanged" if plan.action == "none" else f"would_be_{preview.outcome.value}"
    return Result(
        user_id, status, fields=plan.fields_changed, tags_added=plan.tags_added, tags_removed=plan.tags_removed
    )
