"""The arguments of `load-test`."""

import argparse
from pathlib import Path

from consumer.cli import options

_DESCRIPTION = """\
Replays events into a topic of its own, lets N instances of the service work them off against the fakes of both APIs,
and reports throughput, latency, lag, quota use, memory and CPU, and whether anything was lost or out of order.

It uses the Kafka of the settings, and is the one command that makes topics there: two with names of their own
(load-test-…), and a group, removed at the end. No other topic is written to, and no real API is called: the instances
get the fakes' addresses and credentials whatever the settings say, and the settings of SYNC_… as they are."""

_EPILOG = """\
examples:
  sesamy-mailmojo load-test --events 20000 --users 5000 --rate 500 --report before
  sesamy-mailmojo load-test --from topic:sesamy.events --speed 10 --sesamy-per-minute 100 --mailmojo-per-second 5
  sesamy-mailmojo load-test --from recording.ndjson --max --instances 3 --compare before/report.json

Every user that occurs in recorded events is known to the fakes, with an invented profile. How to record, and what the
figures mean: docs/load-testing.md. Faults (--fault) are those of `sandbox --help`; their windows begin with the load.

exits with 1 when events were lost, order or a quota broken, an instance ended, counts disagree, or not done in time"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    share, seconds = options.between(0, 1), options.between(0, 3600)
    what = parser.add_argument_group("events")
    what.add_argument("--from", dest="source", metavar="topic:NAME|FILE.ndjson", help="recorded ones; else invented")
    what.add_argument(
        "--events", type=options.count(), metavar="N", help="how many (default: 10000; of a recording, all)"
    )
    what.add_argument("--users", type=options.count(), metavar="M", help="of how many users, invented (default: 1000)")
    what.add_argument(
        "--zipf",
        type=options.positive,
        nargs="?",
        const=1.0,
        metavar="EXPONENT",
        help="few users get most of the invented events (exponent: 1)",
    )
    what.add_argument("--ordinary", action="store_true", help="no invented guests, nobody without an address")
    what.add_argument("--seed", type=options.count(0), default=1, metavar="N", help="same seed, same events and users")
    what.add_argument(
        "--changes",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="of the events before which the user really changes, so that there is something to write (default: 1)",
    )
    pace = parser.add_argument_group("pace").add_mutually_exclusive_group()
    pace.add_argument("--rate", type=options.positive, metavar="N", help="events a second (default, invented: 200)")
    pace.add_argument(
        "--speed", type=options.positive, metavar="X", help="so many times as fast as recorded (default, recorded: 1)"
    )
    pace.add_argument("--max", action="store_true", help="as fast as it goes")
    stage = parser.add_argument_group("what works on them")
    stage.add_argument("--instances", type=options.count(most=100), default=3, metavar="N", help="default: 3")
    stage.add_argument("--partitions", type=options.count(most=1000), default=12, metavar="N", help="default: 12")
    stage.add_argument("--backlog", action="store_true", help="start the instances when all is in the topic")
    fakes = parser.add_argument_group("fakes")
    fakes.add_argument("--latency", type=seconds, default=0.05, metavar="SECONDS", help="of answers (default: 0.05)")
    fakes.add_argument("--jitter", type=seconds, default=0.0, metavar="SECONDS", help="up to so much more")
    fakes.add_argument(
        "--sesamy-per-minute", type=options.positive, metavar="N", help="quota, SESAMY_BURST at once (default: none)"
    )
    fakes.add_argument(
        "--mailmojo-per-second",
        type=options.positive,
        metavar="N",
        help="quota, MAILMOJO_BURST at once (default: none)",
    )
    fakes.add_argument("--fault", action="append", default=[], metavar="KEY=VALUE,…", help="repeatable")
    result = parser.add_argument_group("result")
    result.add_argument("--report", type=Path, metavar="DIR", help="write report.html and report.json there")
    result.add_argument("--html", type=Path, metavar="FILE", help="write the page there")
    result.add_argument("--json-file", type=Path, metavar="FILE", help="write the figures there")
    result.add_argument("--compare", type=Path, metavar="EARLIER.json", help="show an earlier report beside")
    result.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    result.add_argument(
        "--within",
        type=options.positive,
        default=300.0,
        metavar="SECONDS",
        help="all is done so long after the last event was sent, or it fails (default: 300)",
    )
    result.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave topics and group in Kafka, and logs and requests in DIR"
    )
