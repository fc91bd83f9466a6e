"""The exit codes of every command."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
"""Wrong usage or settings."""
INTERRUPTED: Final = 130
