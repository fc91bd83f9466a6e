"""`run`: the service."""

import argparse
import gc

from consumer.cli.loading import load_service_settings
from consumer.settings.tree import table


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="the service: consume, sync, commit, until SIGTERM or SIGINT",
        description="Consumes the topic of events and keeps the Mailmojo list in step, until SIGTERM or SIGINT.",
        epilog=_epilog(),
    )
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
    settings = load_service_settings(args)

    from consumer import service  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings
    from consumer.event_loop import run_loop  # noqa: PLC0415

    # Measured under full load: the collector took a tenth of the CPU, and nearly nothing it looks at is garbage.
    gc.freeze()
    gc.set_threshold(10_000)
    return run_loop(service.run(settings))


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
