"""How commands read the settings."""

import argparse
import os
from collections.abc import Collection

import structlog

from consumer.cli import output
from consumer.ops import logs
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


def is_dry_run(args: argparse.Namespace) -> bool:
    """Tell whether a command must write nothing: as its option `--dry-run` says, or SYNC_DRY_RUN.

    Raises:
        SettingsError: something is unknown or wrong.
    """
    if not args.dry_run and load(os.environ, args.config, needs=()).sync.dry_run:
        output.complain("SYNC_DRY_RUN is true: nothing is written, as with --dry-run")
        return True
    return bool(args.dry_run)


def load_service_settings(args: argparse.Namespace, *, needs: Collection[str] = EVERY_PART) -> Settings:
    """Return the settings of a service, and begin its log with what is likely a mistake in them.

    Raises:
        SettingsError: something is missing, unknown or wrong.
    """
    settings = load(os.environ, args.config, needs=needs)

    logs.configure(settings.log)
    for doubt in settings.doubts:
        structlog.get_logger("settings").warning("settings.doubtful", reason=doubt)
    return settings
