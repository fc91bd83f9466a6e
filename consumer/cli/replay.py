"""`replay`: recorded events, once more."""

import argparse
import secrets
import time

from msgspec import structs, to_builtins

from consumer.cli import options, output
from consumer.cli.exit_codes import INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import load_settings
from consumer.cli.progress import duration, shown, time_left
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.ops import logs
from consumer.replay import pace, rewriting
from consumer.replay.files import FileSink, FileSource
from consumer.replay.pace import Due, Pacer
from consumer.replay.rewriting import Rewrite
from consumer.replay.run import Replay, Summary
from consumer.replay.topics import TopicSink, TopicSource
from consumer.settings import Settings, SettingsError


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    _refuse_own_source(args)
    settings = load_settings(args, needs={"kafka"})
    secret = _secret(args)

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


async def _replay(args: argparse.Namespace, settings: Settings, secret: bytes) -> Summary:

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


def _due(args: argparse.Namespace) -> Due:

    if args.rate:
        return pace.at_rate(args.rate)
    if args.max or (args.target.topic is None and not args.speed):
        return pace.at_once
    return pace.at_speed(args.speed or 1.0)


def _source(args: argparse.Namespace, settings: Settings) -> TopicSource | FileSource:

    part = {"partitions": args.partitions, "since": args.since, "until": args.until}
    if args.source.topic is not None:
        return TopicSource(settings.kafka, args.source.topic, **part, report=output.complain)
    return FileSource(args.source.path, **part)


def _sink(args: argparse.Namespace, settings: Settings, pacer: Pacer) -> TopicSink | FileSink:

    if args.target.topic is not None:
        return TopicSink(settings.kafka, args.target.topic, pacer.acknowledged)
    return FileSink(args.target.path, pacer.acknowledged, overwrite=args.overwrite)


def _rewrites(args: argparse.Namespace, settings: Settings, secret: bytes) -> list[Rewrite]:

    pointer = settings.kafka.value_pointer or ""
    rewrites: list[Rewrite] = []
    if args.shift_times:
        rewrites.append(rewriting.shift_times(pointer, time.time))
    if args.anonymize:
        rewrites.append(rewriting.Anonymizer(secret, pointer).rewrite)
    if args.multiply > 1:
        rewrites.append(rewriting.multiply(pointer, args.multiply))
    return rewrites


def _progress(replay: Replay) -> str:
    pacer = replay.pacer
    rate = pacer.stored / pacer.elapsed if pacer.elapsed else 0.0
    late = f", {pacer.late:.1f} s late" if pacer.late >= 0.1 else ""
    pause = (pacer.next_due or 0.0) - pacer.elapsed
    left = time_left(replay.progress, pacer.elapsed) if pause < 5 else f"the next one in {duration(pause)}"
    return f"{pacer.stored:,} stored, {replay.progress:.0%}, {rate:,.0f}/s, {left}{late}"


def _told(args: argparse.Namespace, summary: Summary) -> str:
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
