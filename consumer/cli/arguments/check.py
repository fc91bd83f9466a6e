"""The arguments of `check`."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = "Looks at everything `run` needs, one line each, and creates nothing."
    parser.epilog = (
        "example:\n  sesamy-mailmojo check --config /etc/sesamy-mailmojo.toml && echo ready\n\n"
        "exits with 1 when something is not as it must be, and with 0 when there are only warnings: a variable that\n"
        "looks like a misspelt setting, a secret that others can read"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON per check")
