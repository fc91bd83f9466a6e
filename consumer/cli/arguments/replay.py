"""The arguments of `replay`."""

import argparse
from pathlib import Path

from msgspec import Struct

from consumer.cli import options

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


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = "Replays recorded events, with their keys, headers and order per key."
    parser.epilog = _EPILOG
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


def _endpoint(text: str) -> Endpoint:
    kind, colon, name = text.partition(":")
    if kind == "topic" and colon:
        if not name:
            raise argparse.ArgumentTypeError("topic: needs a name behind it")
        return Endpoint(text, name, Path())
    if not text:
        raise argparse.ArgumentTypeError("neither topic:NAME nor a file")
    return Endpoint(text, None, Path(text))
