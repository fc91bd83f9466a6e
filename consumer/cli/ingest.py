"""`ingest`: an HTTP endpoint that takes Sesamy's webhooks and writes them to the topic."""

import argparse

from consumer.cli.loading import load_service_settings
from consumer.event_loop import run_loop
from consumer.ingest.run import run
from consumer.settings import Settings
from consumer.stopping import stopping


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return run_loop(_until_stopped(load_service_settings(args, needs={"kafka", "ingest"})))


async def _until_stopped(settings: Settings) -> int:

    with stopping(within=settings.sync.shutdown_timeout + 5) as stop:
        await run(settings, stop.requested, stop.begun)
    return 0
