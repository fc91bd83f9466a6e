"""`replay`: recorded events, once more."""

import argparse
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, to_builtins

from consumer.cli import INTERRUPTED, options, output
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import load_settings
from consumer.cli.progress import duration, shown, time_left
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import Settings, SettingsError

if TYPE_CHECKING:
    from consumer.replay.files import FileSink, FileSource
    from consumer.replay.pace import Due, Pacer
    from consumer.replay.rewriting import Rewrite
    from consumer.replay.run import Replay, Summary
    from consumer.replay.topics import TopicSink, TopicSource

_EPILOG = """\
examples:
  sesamy-mailmojo replay --from topic:sesamy.events --to recording.ndjson --since 1d --anonymize
  sesamy-mailmojo replay --from recording.ndjson --to topic:load-test --rate 1000 --multiply 10
  sesamy-mailmojo replay --from recording.ndjson --to topic:load-test --speed 60 --shift-times

A topic is read as far as it goes when the replay begins, by time across its partitions. Into a topic, events go as far
apart as they were recorded unless --speed, --rate or --max says otherwise; into a file, at once. A record is due at its
own time, however late the ones before it were: what a slow broker costs is shown as lateness.

A file holds one record a line, as JSON:
  {"key": "email|1", "value": "{\\"eventType\\": …}", "headers": [["trace", "1"]], "timestamp": 1762776000000,
   "topic": "sesamy.events", "partition": 0, "offset": 12}
All keys are optional. Text is the bytes' UTF-8, {"base64": "…"} stands for bytes that are none, null for none at all; a
value may also be the event itself as JSON. timestamp is in milliseconds; in a topic it becomes the header
replay-timestamp, unless there is one."""


class Endpoint(Struct, frozen=True):
    """A topic or a file."""

    text: str
    topic: str | None
    path: Path

    @property
    def place(self) -> object:
        """The same for two endpoints that are the same."""
        return self.topic if self.topic is not None else self.path.resolve()


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "replay",
        help="replay recorded events from a topic or file to a topic or file",
        description="Replays recorded events, with their keys, headers and order per key.",
        epilog=_EPILOG,
    )
    where = "topic:NAME|FILE.ndjson"
    parser.add_argument("--from", dest="source", type=_endpoint, required=True, metavar=where)
    parser.add_argument("--to", dest="target", type=_endpoint, required=True, metavar=where)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=options.positive, metavar="X", help="so many times as fast as it was recorded")
    pace.add_argument("--rate", type=options.positive, metavar="N", help="so many records a second")
    pace.add_argument("--max", action="store_true", help="as fast as it goes")
    part = parser.add_argument_group("which records")
    part.add_argument("--since", type=options.instant, metavar="T", help="recorded at or after (ISO 8601, or 2h ago)")
    part.add_argument("--until", type=options.instant, metavar="T", help="recorded before")
    part.add_argument("--skip", type=options.count(0), default=0, metavar="N", help="leave out the first N of them")
    part.add_argument("--limit", type=options.count(), metavar="N", help="N of them at most")
    part.add_argument("--partitions", type=options.partitions, metavar="0,2-4", help="of these partitions")
    change = parser.add_argument_group("what changes")
    change.add_argument("--shift-times", action="store_true", help="move all times so that the first record is now")
    change.add_argument(
        "--multiply", type=options.count(), default=1, metavar="N", help="N users of each: ID, ID~2, … ID~N"
    )
    change.add_argument(
        "--anonymize", action="store_true", help="pseudonyms for ids and addresses, nothing else about people"
    )
    change.add_argument(
        "--secret-file",
        type=Path,
        metavar="FILE",
        help="with --anonymize: what the pseudonyms depend on; without, others in each run",
    )
    parser.add_argument("--same-topic", action="store_true", help="allow a topic to be replayed into itself")
    parser.add_argument("--overwrite", action="store_true", help="allow the file to exist")
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON")
    parser.set_defaults(handler=_handle)


def _endpoint(text: str) -> Endpoint:
    kind, colon, name = text.partition(":")
    if kind == "topic" and colon:
        if not name:
            raise argparse.ArgumentTypeError("topic: needs a name behind it")
        return Endpoint(text, name, Path())
    if not text:
        raise argparse.ArgumentTypeError("neither topic:NAME nor a file")
    return Endpoint(text, None, Path(text))


def _handle(args: argparse.Namespace) -> int:
    _refuse_own_source(args)
    settings = load_settings(args, needs={"kafka"})
    secret = _secret(args)

    from msgspec import structs  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings

    from consumer.ops import logs  # noqa: PLC0415

    logs.configure(structs.replace(settings.log, level="error"), libraries=False)
    summary = run_loop(_replay(args, settings, secret))
    if args.json:
        output.print_json(to_builtins(summary))
    else:
        output.line(_told(args, summary))
    return 0 if summary.complete else INTERRUPTED


def _refuse_own_source(args: argparse.Namespace) -> None:
    source, target = args.source, args.target
    same = source.place == target.place or (
        source.topic is None and target.topic is None and target.path.exists() and target.path.samefile(source.path)
    )
    if same and not (args.same_topic and source.topic):
        allow = "; --same-topic allows it" if source.topic else ""
        raise SettingsError(f"--to {target.text} is what --from reads: it would be replayed into itself{allow}")


def _secret(args: argparse.Namespace) -> bytes:
    if args.secret_file is None:
        return secrets.token_bytes(32)
    if not args.anonymize:
        raise SettingsError("--secret-file is for --anonymize")
    try:
        secret: bytes = args.secret_file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"--secret-file {args.secret_file}: {error.strerror}") from None
    if not secret:
        raise SettingsError(f"--secret-file {args.secret_file} is empty")
    return secret


async def _replay(args: argparse.Namespace, settings: Settings, secret: bytes) -> "Summary":
    from consumer.replay.pace import Pacer  # noqa: PLC0415 - heavy, as what follows
    from consumer.replay.run import Replay  # noqa: PLC0415

    pacer = Pacer(_due(args), time.monotonic)
    source, sink = _source(args, settings), _sink(args, settings, pacer)
    replay = Replay(source, sink, pacer, _rewrites(args, settings, secret), skip=args.skip, limit=args.limit)
    try:
        async with source, sink, shown(lambda: _progress(replay)):
            return await replay.run(interruptible)
    except Failure as failure:
        if not replay.read:
            raise
        read = "" if args.multiply == 1 else f" of {replay.read:,} read"
        raise Failure(f"{failure} (stored until then: {pacer.stored:,} records{read})") from failure


def _due(args: argparse.Namespace) -> "Due":
    from consumer.replay import pace  # noqa: PLC0415

    if args.rate:
        return pace.at_rate(args.rate)
    if args.max or (args.target.topic is None and not args.speed):
        return pace.at_once
    return pace.at_speed(args.speed or 1.0)


def _source(args: argparse.Namespace, settings: Settings) -> "TopicSource | FileSource":
    from consumer.replay.files import FileSource  # noqa: PLC0415
    from consumer.replay.topics import TopicSource  # noqa: PLC0415

    part = {"partitions": args.partitions, "since": args.since, "until": args.until}
    if args.source.topic is not None:
        return TopicSource(settings.kafka, args.source.topic, **part, report=output.complain)
    return FileSource(args.source.path, **part)


def _sink(args: argparse.Namespace, settings: Settings, pacer: "Pacer") -> "TopicSink | FileSink":
    from consumer.replay.files import FileSink  # noqa: PLC0415
    from consumer.replay.topics import TopicSink  # noqa: PLC0415

    if args.target.topic is not None:
        return TopicSink(settings.kafka, args.target.topic, pacer.acknowledged)
    return FileSink(args.target.path, pacer.acknowledged, overwrite=args.overwrite)


def _rewrites(args: argparse.Namespace, settings: Settings, secret: bytes) -> "list[Rewrite]":
    from consumer.replay import rewriting  # noqa: PLC0415

    pointer = settings.kafka.value_pointer or ""
    rewrites: list[Rewrite] = []
    if args.shift_times:
        rewrites.append(rewriting.shift_times(pointer, time.time))
    if args.anonymize:
        rewrites.append(rewriting.Anonymizer(secret, pointer).rewrite)
    if args.multiply > 1:
        rewrites.append(rewriting.multiply(pointer, args.multiply))
    return rewrites


def _progress(replay: "Replay") -> str:
    pacer = replay.pacer
    rate = pacer.stored / pacer.elapsed if pacer.elapsed else 0.0
    late = f", {pacer.late:.1f} s late" if pacer.late >= 0.1 else ""
    pause = (pacer.next_due or 0.0) - pacer.elapsed
    left = time_left(replay.progress, pacer.elapsed) if pause < 5 else f"the next one in {duration(pause)}"
    return f"{pacer.stored:,} stored, {replay.progress:.0%}, {rate:,.0f}/s, {left}{late}"


def _told(args: argparse.Namespace, summary: "Summary") -> str:
    end = "" if summary.complete else "stopped: "
    read = "" if summary.read == summary.stored else f" of {summary.read:,} read"
    text = f"{end}{summary.stored:,} records stored{read} in {duration(summary.seconds)}, {summary.per_second:,.0f}/s"
    if summary.left_out:
        text += f", {summary.left_out:,} truncated dead letters left out"
    if summary.lateness_most is not None:
        text += f", at most {summary.lateness_most:.2f} s late"
    if summary.complete:
        return text
    if args.source.topic is None:
        text += f" (--skip {args.skip + summary.read} goes on from there)"
    elif summary.last_timestamp is not None:
        text += f"; the last one is of {options.shown_instant(summary.last_timestamp)} (--since goes on from there)"
    return text
