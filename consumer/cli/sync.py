"""`sync`: bring some users up to date now."""

import argparse
from collections.abc import Sequence
from typing import Final

from msgspec import to_builtins

from consumer import kafka
from consumer.cli import output, requests
from consumer.cli.exit_codes import DONE, FAILED, INTERRUPTED
from consumer.cli.in_process import sync_here
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run, load_settings
from consumer.cli.sync_result import Result, outcome_of
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.ops import logs
from consumer.settings import Settings

_BAD: Final = frozenset({"dead_lettered", "failed", "waiting", "unknown"})


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    args.dry_run = is_dry_run(args)
    in_process = args.direct or args.dry_run
    settings = load_settings(args, needs={"kafka", "sesamy", "mailmojo"} if in_process else {"kafka"})

    logs.configure(settings.log)
    user_ids = list(dict.fromkeys(args.user_ids))
    results: list[Result] = []
    if in_process:
        ended = run_loop(interruptible(sync_here(settings, user_ids, results, dry_run=args.dry_run)))
    else:
        ended = run_loop(_through_topic(settings, user_ids, None if args.no_wait else args.timeout, results))
    for result in results:
        if args.json:
            output.print_json(to_builtins(result))
        else:
            output.line(result.line)
    if not ended:
        return INTERRUPTED
    return FAILED if any(result.status in _BAD for result in results) else DONE


async def _through_topic(
    settings: Settings,
    user_ids: Sequence[str],
    timeout: float | None,  # noqa: ASYNC109 - the option
    results: list[Result],
) -> bool:
    """Append the result of each user to `results`; return False when a signal ended the wait for them."""
    topic, letters = settings.kafka.topic, settings.kafka.dead_letter_topic
    async with kafka.admin(settings.kafka) as client:
        partitions = await kafka.count_partitions(client, {topic, letters})
        members = await kafka.group_members(client, settings.group_id)
    wanted = {topic: "KAFKA_TOPIC", letters: "KAFKA_DEAD_LETTER_TOPIC"}
    if missing := {name: setting for name, setting in wanted.items() if name not in partitions}:
        raise Failure(kafka.missing_topics(settings.kafka, missing))
    if not members:
        output.complain(f"nobody is in group {settings.group_id}: the requests wait until the service runs")

    if timeout is None:
        stored = await requests.put(settings, user_ids)
        results += [Result(request.user_id, "requested") for request in stored]
        return True
    done: dict[requests.Request, str | None] = {}
    async with requests.DeadLetterWatch(settings.kafka, partitions[letters]) as watch:
        stored = await requests.put(settings, user_ids, report=True)
        ended = await interruptible(requests.wait(settings, stored, timeout, done))
        if not ended:
            await requests.wait(settings, stored, 0, done)  # one last look
        failed = await watch.find(stored)
    for request in stored:
        outcome = done.get(request)
        if letter := failed.get(request):
            result = Result(request.user_id, "dead_lettered", letter.reason, letter.error)
        elif request not in done:
            place = f"partition {request.partition}, offset {request.offset}"
            when = f"after {timeout:g} s" if ended else "when the command was interrupted"
            result = Result(request.user_id, "waiting", detail=f"not done {when} ({place})")
        elif outcome is None:
            result = Result(request.user_id, "unknown", detail="done, but the service did not say how")
        else:
            result = Result(request.user_id, *outcome_of(outcome))
        results.append(result)
    return ended
