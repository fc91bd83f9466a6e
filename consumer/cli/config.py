"""`config`: an example of a settings file, and the settings in effect."""

import argparse
from collections.abc import Iterator

from msgspec import Struct, to_builtins

from consumer.cli import output
from consumer.cli.loading import load_settings
from consumer.masking import mask_secrets
from consumer.settings import Settings, example
from consumer.settings.tree import Row, table


class Shown(Struct, frozen=True):
    """One setting in effect. `value` is None if it has none; a secret's is `***`."""

    setting: str
    key: str
    value: str | None
    source: str
    """`default`, `not set` (a required one), the environment variable, or the key and its file."""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if args.action == "example":
        output.lines(example.render().rstrip("\n"))
        return 0
    shown = list(_effective(load_settings(args, needs=())))
    names, values = max(len(it.setting) for it in shown), max(len(it.value or "") for it in shown)
    for it in shown:
        if args.json:
            output.print_json(to_builtins(it))
        else:
            output.line(f"{it.setting:{names}}  {it.value or '':{values}}  {it.source}")
    return 0


def _effective(settings: Settings) -> Iterator[Shown]:
    for row in table():
        missing = "not set" if row.setting.required else "default"
        source = settings.sources.get(row.toml, missing)
        value = getattr(getattr(settings, row.section), row.key)
        yield Shown(row.setting.env, row.toml, _text(row, value, is_set=row.toml in settings.sources), source)


def _text(row: Row, value: object, *, is_set: bool) -> str | None:
    if row.secret:
        return "***" if is_set else None
    if value in {None, ""} or (row.setting.required and not is_set):
        return None
    if isinstance(value, tuple):
        return mask_secrets(",".join(map(str, value)))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else mask_secrets(str(value))
