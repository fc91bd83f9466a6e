"""Another commit of this repository in a folder of its own, for a comparison in the same run."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.contestants import ROOT


class CheckoutError(Exception):
    """Git could not check the commit out; the text says why."""


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out until the block ends.

    Raises:
        CheckoutError: there is no such commit, or Git cannot check it out.
    """
    _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CheckoutError(f"git {' '.join(arguments)}: {result.stderr.strip()}")
