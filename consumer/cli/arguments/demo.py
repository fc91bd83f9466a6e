"""The arguments of `demo`."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Runs the real service against a mock broker and fakes of both APIs, all in this process and "
        "offline:\na backlog and a stream of events, some faults, and what became of the contacts. It ends by itself."
    )
    parser.epilog = (
        "examples:\n  sesamy-mailmojo demo\n  sesamy-mailmojo demo --users 100 --json | python -m json.tool\n\n"
        "exits with 1 when the result is not what the service promises"
    )
    parser.add_argument("--users", type=_users, default=300, metavar="N", help="invented users (default: %(default)s)")
    parser.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same users, events and faults")
    parser.add_argument(
        "--seconds-at-most", type=_seconds, default=28.0, metavar="S", help="it gives up after these (default: 28)"
    )
    parser.add_argument("--json", action="store_true", help="print only the result, as one line of JSON")


def _users(text: str) -> int:
    return _whole(text, 1, 5000)


def _seed(text: str) -> int:
    return _whole(text, 0, 1 << 31)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 15 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"it is a number of seconds from 15 to 600, not {text!r}")
    return seconds


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"it is a whole number from {least} to {most}, not {text!r}")
    return number
