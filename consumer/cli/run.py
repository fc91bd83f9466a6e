"""`run`: the service."""

import argparse
import asyncio
import gc
import os
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from consumer.settings import load
from consumer.settings.tree import table

T = TypeVar("T")

_END_OF_TLS: Final = 1.0


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
    settings = load(os.environ, args.config)

    from consumer import service  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings
    from consumer.ops import logs  # noqa: PLC0415

    logs.configure(settings.log)
    # Measured under full load: the collector took a tenth of the CPU, and nearly nothing it looks at is garbage.
    gc.freeze()
    gc.set_threshold(10_000)
    return run_loop(service.run(settings))


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own, the faster one where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(main)

    class Loop(uvloop.Loop):
        """Waits a second for the other side's end of TLS, not half a minute.

        With uvloop 0.23 that end is never noticed when an answer arrives during it, as a broker's to a fetch does:
        half of the `stop()`s of a consumer took those 30 s, and with asyncio's own loop none (seen on a broker).
        """

        async def create_connection(self, *args: Any, **options: Any) -> Any:
            if options.get("ssl"):
                options.setdefault("ssl_shutdown_timeout", _END_OF_TLS)
            return await super().create_connection(*args, **options)

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


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
