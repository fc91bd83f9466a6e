"""The arguments of `config`."""

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  sesamy-mailmojo config example > sesamy-mailmojo.toml
  sesamy-mailmojo config show --config sesamy-mailmojo.toml

`example` prints a TOML file with every setting, its meaning and its default. `show` prints each setting in effect and
its source: the default, an environment variable, or a key of the file. Secrets are never printed. Neither connects to
anything; `sesamy-mailmojo check` verifies that the settings work."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = "Prints an example of a settings file, or the settings in effect."
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(metavar="example|show", dest="action", required=True)
    for name, meaning in (("example", "print a TOML file with all settings"), ("show", "print the settings in effect")):
        action = actions.add_parser(
            name, help=meaning, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        action.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE.toml", help="settings")
        if name == "show":
            action.add_argument("--json", action="store_true", help="one line of JSON for each setting")
