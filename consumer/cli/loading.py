"""How commands read the settings."""

import argparse
import os
from collections.abc import Collection

from consumer.cli import output
from consumer.settings import EVERY_PART, Settings, load


def load_settings(args: argparse.Namespace, *, needs: Collection[str] = EVERY_PART) -> Settings:
    """Return the settings of `--config` and the environment, and print what is likely a mistake in them to stderr.

    Raises:
        SettingsError: something is missing, unknown or wrong.
    """
    settings = load(os.environ, args.config, needs=needs)
    for doubt in settings.doubts:
        output.complain(f"warning: {doubt}")
    return settings


def load_service_settings(args: argparse.Namespace, *, needs: Collection[str] = EVERY_PART) -> Settings:
    """Return the settings of a service, and begin its log with what is likely a mistake in them.

    Raises:
        SettingsError: something is missing, unknown or wrong.
    """
    settings = load(os.environ, args.config, needs=needs)

    import structlog  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings

    from consumer.ops import logs  # noqa: PLC0415

    logs.configure(settings.log)
    for doubt in settings.doubts:
        structlog.get_logger("settings").warning("settings.doubtful", reason=doubt)
    return settings
