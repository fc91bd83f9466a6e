"""`dead-letters retry` and `dead-letters dismiss`: what is done about dead letters, after a question."""

import argparse
import sys
from collections.abc import Mapping

from consumer.cli import output
from consumer.cli.exit_codes import DONE, FAILED, INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run
from consumer.cli.progress import shown
from consumer.dead_letters import dismiss, retry
from consumer.dead_letters.retry import Plan, PutBack, Times
from consumer.dead_letters.stored import Wanted
from consumer.event_loop import run_loop
from consumer.settings import Settings, SettingsError


def retry_letters(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    """Republish the wanted dead letters and return the exit code."""
    args.dry_run = is_dry_run(args)
    _require_answer(args, "retry asks before it republishes records")
    options = {"most_retries": args.max_retries, "again": args.again, "report": output.complain}
    plan = run_loop(retry.plan(settings, wanted, times, **options))
    count = len(plan.chosen)
    if not args.json:
        _print_plan(plan, settings.kafka.topic, certain=args.yes and not args.dry_run)
    work, complete = PutBack(settings, plan), True
    if count and not args.dry_run:
        if not args.yes and not output.confirms(f"Type {count} to put them back: ", str(count)):
            output.complain("nothing was put back")
            return FAILED
        complete = run_loop(_put_back(work))
    if args.json:
        found = {"chosen": count, "reasons": plan.reasons, "left_out": plan.left_out, "put_back": work.count}
        output.print_json(found | {"complete": complete})
    elif not args.dry_run:
        end = "" if complete else "stopped: "
        output.line(f"{end}{work.count} put back into {settings.kafka.topic}")
    return DONE if complete else INTERRUPTED


def dismiss_letters(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    """Dismiss the wanted dead letters and return the exit code."""
    args.dry_run = is_dry_run(args)
    _require_answer(args, "dismiss asks before it dismisses dead letters")
    dismissal = run_loop(dismiss.plan(settings, wanted, times, report=output.complain))
    count, dismissed = len(dismissal.chosen), 0
    if not args.json:
        would = "to be" if args.yes and not args.dry_run else "would be"
        output.line(f"{count} {would} dismissed{_by_reason(dismissal.reasons)}")
    if count and not args.dry_run:
        if not args.yes and not output.confirms(f"Type {count} to dismiss them: ", str(count)):
            output.complain("nothing was dismissed")
            return FAILED
        dismissed = run_loop(dismiss.dismiss(settings, dismissal))
    if args.json:
        output.print_json({"chosen": count, "reasons": dismissal.reasons, "dismissed": dismissed})
    elif not args.dry_run:
        output.line(f"{dismissed} dismissed")
    return DONE


def _require_answer(args: argparse.Namespace, what: str) -> None:
    if not (args.yes or args.dry_run or sys.stdin.isatty()):
        raise SettingsError(f"{what}, and nobody is at the terminal: give --yes or --dry-run")


async def _put_back(work: PutBack) -> bool:
    async with shown(lambda: f"{work.count:,} put back"):
        return await interruptible(work.run())


def _print_plan(plan: Plan, topic: str, *, certain: bool) -> None:
    would = "to be" if certain else "would be"
    output.line(f"{len(plan.chosen)} {would} put back into {topic}{_by_reason(plan.reasons)}")
    for why, number in sorted(plan.left_out.items()):
        output.line(f"{number} left out: {why}")


def _by_reason(reasons: Mapping[str, int]) -> str:
    counts = ", ".join(f"{number} {reason or 'without a reason'}" for reason, number in sorted(reasons.items()))
    return f": {counts}" if counts else ""
