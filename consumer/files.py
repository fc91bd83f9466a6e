"""Writes files: never through a symbolic link, readable by this user alone (mode 0600).

A checkpoint, a report or an export may lie in a folder where others can write, and holds ids or addresses. Every file
that the program writes is opened here.
"""

import os
import stat
from contextlib import suppress
from errno import ELOOP
from pathlib import Path
from typing import BinaryIO, Final

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE: Final = 0o600


def replace(path: Path, content: bytes) -> None:
    """Write the file so that a reader finds the old content or the new one, whole, also after a crash.

    Raises:
        OSError: it cannot be written, or it is a symbolic link; `strerror` is made for people.
    """
    check_replaceable(path)
    new = _new(path)
    with suppress(FileNotFoundError):
        new.unlink()  # left by a process that was killed
    with create(new) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                new.unlink()
            raise


def check_replaceable(path: Path) -> None:
    """Raise what `replace` would raise for a symbolic link, before there is anything to write."""
    for one in (path, _new(path)):
        _refuse_link(one)


def create(path: Path, *, overwrite: bool = False, buffering: int = -1) -> BinaryIO:
    """Open a new file for writing; with `overwrite` a file that exists makes way for it.

    Raises:
        FileExistsError: it exists.
        OSError: it cannot be written, or it is a symbolic link.
    """
    if overwrite:
        _refuse_link(path)
        with suppress(FileNotFoundError):
            if stat.S_ISREG(path.lstat().st_mode):
                path.unlink()
            else:  # a pipe or a device
                return os.fdopen(os.open(path, _FLAGS & ~os.O_CREAT), "wb", buffering)
    return os.fdopen(os.open(path, _FLAGS | os.O_EXCL, _MODE), "wb", buffering)


def append(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Open a file to write at its end; it is made if it is not there.

    Raises:
        OSError: it cannot be written, or it is a symbolic link.
    """
    _refuse_link(path)
    return os.fdopen(os.open(path, _FLAGS | os.O_APPEND, _MODE), "ab", buffering)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise OSError(ELOOP, f"{path.name} is a symbolic link; give the path of a file", str(path))
