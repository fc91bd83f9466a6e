"""`sandbox`: only the fakes of both APIs, to try the service against."""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from consumer.cli import output
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import SettingsError
from consumer.stopping import on_stop

if TYPE_CHECKING:
    from consumer.sandbox import Options, Rule, Sandbox

_EPILOG = """\
examples:
  sesamy-mailmojo sandbox --users 1000 --latency 0.05
  sesamy-mailmojo sandbox --sesamy-per-minute 100 --mailmojo-per-second 5 --log requests.ndjson
  sesamy-mailmojo sandbox --fault api=mailmojo,operation=patch_contact,status=500,rate=0.01 --answer custom=replace

A fault has any of: api (sesamy, token, mailmojo), operation (as in the log), method, key (a user id or an
address), rate (a share), times, start and lasts (seconds), delay (seconds), status, body and content_type (an
answer without a comma; others through the control address), cut=true (close the connection), stage (before or
after the request took effect).

Answers to what the references leave open (the first is the usual one):
"""


T = TypeVar("T", int, float)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    from consumer.sandbox.answers import Answers  # noqa: PLC0415 - small, and the help lists them

    usual = Answers()
    lines = [
        f"  {name}: {', '.join([getattr(usual, name), *(one for one in answers if one != getattr(usual, name))])}"
        for name, answers in Answers.choices().items()
    ]
    parser = subparsers.add_parser(
        "sandbox",
        help="only the fakes (Sesamy API, Mailmojo API), with latency, quotas, faults and a request log",
        description="Serves fakes of Sesamy's and Mailmojo's APIs on 127.0.0.1 until SIGINT, SIGTERM or SIGHUP.\n"
        "They are built from references, unverified against the live services.",
        epilog=_EPILOG + "\n".join(lines),
    )
    port = _number(int, "a port is 0 to 65535", 0, 65_535)
    count = _number(int, "it is a whole number, 0 or more", 0, 1 << 40)
    seconds = _number(float, "it is a number of seconds, 0 or more", 0, 1e9)
    positive = _number(float, "it is a number above 0", 1e-9, 1e12)
    ports = parser.add_argument_group("ports (0 = any free one)")
    ports.add_argument("--sesamy-port", type=port, default=8101, metavar="PORT", help="default: %(default)s")
    ports.add_argument("--mailmojo-port", type=port, default=8102, metavar="PORT", help="default: %(default)s")
    ports.add_argument("--control-port", type=port, default=8103, metavar="PORT", help="default: %(default)s")
    world = parser.add_argument_group("world")
    world.add_argument("--users", type=count, default=1000, metavar="N", help="invented users (default: %(default)s)")
    world.add_argument("--seed", type=count, default=1, metavar="N", help="same seed, same users and faults")
    world.add_argument("--ordinary", action="store_true", help="no guests and nobody without an address")
    world.add_argument(
        "--user-ids", type=Path, metavar="FILE", help="users of these ids, one a line, instead; all of them ordinary"
    )
    world.add_argument("--answer", action="append", default=[], metavar="NAME=ANSWER", help="see below; repeatable")
    faults = parser.add_argument_group("faults (also while it runs: see the control address)")
    faults.add_argument("--latency", type=seconds, default=0.0, metavar="SECONDS", help="of every answer")
    faults.add_argument("--jitter", type=seconds, default=0.0, metavar="SECONDS", help="up to so much more")
    faults.add_argument("--sesamy-per-minute", type=positive, metavar="N", help="quota; beyond it 429 (default: none)")
    faults.add_argument("--sesamy-burst", type=positive, default=200.0, metavar="N", help="default: 200")
    faults.add_argument(
        "--mailmojo-per-second", type=positive, metavar="N", help="quota; beyond it 429 (default: none)"
    )
    faults.add_argument("--mailmojo-burst", type=positive, default=5.0, metavar="N", help="default: 5")
    faults.add_argument("--token-lifetime", type=positive, default=86_400.0, metavar="SECONDS", help="default: a day")
    faults.add_argument("--fault", action="append", default=[], metavar="KEY=VALUE,…", help="see below; repeatable")
    parser.add_argument("--log", type=Path, metavar="FILE.ndjson", help="append each request to this file")
    parser.add_argument(
        "--log-limit", type=count, default=100_000, metavar="N", help="requests kept in memory (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
    return run_loop(_serve(args, _options(args)))


def _options(args: argparse.Namespace) -> "Options":
    from consumer.sandbox import Answers, Options, Plan, Quota  # noqa: PLC0415 - pulls in the HTTP server

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


def rule(text: str) -> "Rule":
    """Return the fault that is written so.

    Raises:
        SettingsError: it is none.
    """
    import msgspec  # noqa: PLC0415 - only where a fault is given

    from consumer.sandbox import Rule  # noqa: PLC0415

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


async def _serve(args: argparse.Namespace, options: "Options") -> int:
    from consumer.sandbox import Sandbox, World  # noqa: PLC0415 - pulls in the HTTP server
    from consumer.sandbox.population import ORDINARY, USERS  # noqa: PLC0415

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


def _announce(args: argparse.Namespace, sandbox: "Sandbox") -> None:
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


def _number(kind: type[T], meaning: str, low: float, high: float) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            number = kind(text)
        except ValueError:
            number = kind("-1")
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{meaning}, not {text!r}")
        return number

    return parse
