"""`sandbox`: only the fakes of both APIs, to try the service against."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import msgspec

from consumer.cli import output
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.sandbox import Answers, Options, Plan, Quota, Rule, Sandbox, World
from consumer.sandbox.population import ORDINARY, USERS
from consumer.settings import SettingsError
from consumer.stopping import on_stop


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return run_loop(_serve(args, _options(args)))


def _options(args: argparse.Namespace) -> Options:

    try:
        answers = Answers.of(args.answer)
    except ValueError as error:
        raise SettingsError(f"--answer: {error}") from None
    sesamy = args.sesamy_per_minute and Quota(args.sesamy_per_minute / 60, args.sesamy_burst)
    mailmojo = args.mailmojo_per_second and Quota(args.mailmojo_per_second, args.mailmojo_burst)
    return Options(
        sesamy_port=args.sesamy_port,
        mailmojo_port=args.mailmojo_port,
        control_port=args.control_port,
        answers=answers,
        seed=args.seed,
        log_file=args.log,
        log_limit=args.log_limit,
        plan=Plan(
            latency=args.latency,
            jitter=args.jitter,
            sesamy_quota=sesamy,
            mailmojo_quota=mailmojo,
            token_lifetime=args.token_lifetime,
            rules=tuple(rule(text) for text in args.fault),
        ),
    )


def rule(text: str) -> Rule:
    """Return the fault that is written so.

    Raises:
        SettingsError: it is none.
    """
    pairs: dict[str, Any] = dict(pair.partition("=")[::2] for pair in text.split(","))
    try:
        return msgspec.convert(pairs, Rule, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"--fault: {text!r}: {error}") from None


def _user_ids(path: Path) -> list[str]:
    try:
        return list(filter(None, path.read_text(encoding="utf-8").split("\n")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"--user-ids {path}: {reason}; give a file with a user id in each line") from None


async def _serve(args: argparse.Namespace, options: Options) -> int:

    world = World()
    if args.user_ids:
        ids = _user_ids(args.user_ids)
        world.populate(len(ids), args.seed, kinds=ORDINARY, ids=ids)
    else:
        world.populate(args.users, args.seed, kinds=ORDINARY if args.ordinary else USERS)
    stop = asyncio.Event()
    try:
        with on_stop(stop.set):
            async with Sandbox(options, world=world) as sandbox:
                _announce(args, sandbox)
                await stop.wait()
    except OSError as error:
        raise Failure(
            f"the sandbox cannot start: {error} (--sesamy-port, --mailmojo-port, --control-port, --log)"
        ) from error
    output.note(f"{sandbox.log.count} requests, {len(sandbox.log.violations)} violations of the references")
    return 0


def _announce(args: argparse.Namespace, sandbox: Sandbox) -> None:
    environment = sandbox.environment
    if args.json:
        output.print_json({"environment": environment, "control_url": sandbox.control_url})
    else:
        output.line("Fakes of both APIs, built from references, unverified against the live services.")
        output.line()
        output.line(f"  Sesamy    {sandbox.sesamy_url}   (token: {sandbox.token_url})")
        output.line(f"  Mailmojo  {sandbox.mailmojo_url}   (list {sandbox.list_id})")
        output.line(f"  control   {sandbox.control_url}/   (log, violations, users, contacts, faults)")
        output.line(f"  world     {len(sandbox.world.user_ids())} users, seed {args.seed}")
        output.lines("\nPoint the service at them:\n")
        for name, value in environment.items():
            output.line(f"  export {name}={value}")
        output.lines("\nCtrl-C ends it.")
    output.flush()
