"""Writes files: never through a symbolic link, readable by this user alone (mode 0600).

A checkpoint, a report or an export may lie in a folder where others can write, and holds ids or addresses. Every file
that the program writes is opened here.
"""

import os
import stat
from contextlib import suppress
from errno import EINVAL, ELOOP
from pathlib import Path
from typing import BinaryIO, Final

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE: Final = 0o600


def replace(path: Path, content: bytes) -> None:
    """Write the file so that a reader finds the old content or the new one, whole, also after a crash.

    Raises:
        OSError: it cannot be written, or it is a symbolic link, a folder, a pipe or a device; `strerror` is made for
            people.
    """
    new = _beside(path)
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
    """Raise what `replace` would raise, before there is anything to write."""
    new = _beside(path)
    create(new).close()
    new.unlink()


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


def _beside(path: Path) -> Path:
    """Return the path of the file that is written first and then becomes `path`; it is free."""
    _refuse_all_but_files(path)
    new = path.with_name(f"{path.name}.new")
    _refuse_all_but_files(new)
    with suppress(FileNotFoundError):
        new.unlink()  # left by a process that was killed
    return new


def _refuse_all_but_files(path: Path) -> None:
    _refuse_link(path)
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, f"{path.name or path} is not a regular file; give the path of one", str(path))


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise OSError(ELOOP, f"{path.name} is a symbolic link; give the path of a file", str(path))
