"""`check`: is everything there that `run` needs? It creates nothing."""

import argparse
import asyncio
import os
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import structs, to_builtins

from consumer import kafka
from consumer.cli import output
from consumer.cli.check_apis import look_at_apis
from consumer.cli.check_result import Check
from consumer.dead_letters import topic_check
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.ops import logs
from consumer.settings import Settings, load

_SECONDS: Final = 15.0
"""What one API may take for its part, waits for a quota included."""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    settings = load(os.environ, args.config)

    # What the libraries log of a failing connection is what the lines below say in one sentence.
    logs.configure(structs.replace(settings.log, level="error"))
    doubts = [Check("settings", "warning", doubt) for doubt in settings.doubts]
    checks = [Check("settings", "ok", "complete"), *doubts, *run_loop(_look(settings))]
    width = max(len(check.name) for check in checks)
    for check in checks:
        if args.json:
            output.print_json(to_builtins(check))
        else:
            output.line(f"{check.status:7}  {check.name:{width}}  {check.detail}")
    return 1 if any(check.status not in {"ok", "warning"} for check in checks) else 0


async def _look(settings: Settings) -> list[Check]:

    parts = await asyncio.gather(_look_at_kafka(settings), look_at_apis(settings, _SECONDS))
    return [check for part in parts for check in part]


async def _look_at_kafka(settings: Settings) -> list[Check]:

    topics = (
        ("topic", settings.kafka.topic, "KAFKA_TOPIC"),
        ("dead-letter topic", settings.kafka.dead_letter_topic, "KAFKA_DEAD_LETTER_TOPIC"),
    )
    try:
        async with kafka.admin(settings.kafka) as client:
            counts = await kafka.count_partitions(client, {topic for _, topic, _ in topics})
            letters = settings.kafka.dead_letter_topic
            faults = {letters: await topic_check.faults(client, letters)} if letters in counts else {}
            return [
                Check("Kafka", "ok", f"answers at {settings.kafka.bootstrap_servers}"),
                *(
                    Check(name, "failed", f"{topic} ({setting}): {'; '.join(faults[topic])}")
                    if faults.get(topic)
                    else Check(name, "ok", f"{topic}, {_counted(counts[topic], 'partition')}")
                    if topic in counts
                    else Check(name, "failed", kafka.missing_topics(settings.kafka, {topic: setting}))
                    for name, topic, setting in topics
                ),
                await _group(settings, client, counts.get(settings.kafka.topic, 0)),
            ]
    except Failure as failure:
        return [
            Check("Kafka", "failed", str(failure)),
            *(Check(name, "skipped", "needs Kafka") for name in ("topic", "dead-letter topic", "group")),
        ]


async def _group(settings: Settings, client: AIOKafkaAdminClient, partitions: int) -> Check:

    group = settings.group_id
    try:
        members = await kafka.group_members(client, group)
        commits = await kafka.group_offsets(client, group, settings.kafka.topic)
    except KafkaError as error:
        return Check("group", "failed", f"{group} (KAFKA_GROUP_ID): {kafka.explain(settings.kafka, error)}")
    begun = f"commits in {len(commits)} of {_counted(partitions, 'partition')}" if commits else "new, no commits"
    return Check("group", "ok", f"{group}, {_counted(members, 'member')}, {begun}")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
