"""The arguments of `run`."""

import argparse

from consumer.settings.tree import table


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = "Consumes the topic of events and keeps the Mailmojo list in step, until SIGTERM or SIGINT."
    parser.epilog = _epilog()


def _epilog() -> str:
    rows = [(row.setting.env, row.toml, row.shown_default, row.setting.meaning) for row in table()]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [
        f"  {env:{widths[0]}}  {toml:{widths[1]}}  {meaning}" + (f" [{default}]" if default else "")
        for env, toml, default, meaning in rows
    ]
    return "\n".join(
        [
            "example:",
            "  sesamy-mailmojo run --config /etc/sesamy-mailmojo.toml",
            "",
            "settings, as environment variables or TOML keys (secrets also as NAME_FILE, the path of a file):",
            *lines,
        ]
    )
