"""A secret that does not print itself and can be read again from its file."""

import asyncio
from pathlib import Path

from consumer.masking import remember_secret


class Secret:
    """A setting whose value must never reach a log, a page or an exception text.

    Given as a value, or as the path of a file (`NAME_FILE`) that is read again after a 401, so that a rotated
    secret needs no restart.
    """

    def __init__(self, value: str = "", *, path: Path | None = None) -> None:
        """Hold the value, or read it from `path`.

        Raises:
            OSError: the file cannot be read.
            UnicodeDecodeError: the file is not text.
        """
        self._path = path
        self.value = value if path is None else _read(path)
        remember_secret(self.value)

    async def reload(self) -> bool:
        """Read the file again, if there is one, and return whether the value changed.

        A file that cannot be read just now or is empty (in the middle of a rotation) leaves the value as it was.
        """
        if self._path is None:
            return False
        try:
            value = await asyncio.to_thread(_read, self._path)
        except (OSError, UnicodeDecodeError):
            return False
        if not value:
            return False
        changed, self.value = value != self.value, value
        remember_secret(value)
        return changed

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
