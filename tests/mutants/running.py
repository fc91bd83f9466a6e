"""Runs tests in copies of the program, each with one fault in it."""

import asyncio
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.mutants.table import ROOT, Fault, OutOfDate, applied

_LEFT_OUT: Final = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "target", "results", "build", "dist", "*.egg-info"
)
_FORKS: Final = multiprocessing.get_context("forkserver")
"""Each run is a fork of a process that has the libraries loaded: loading them takes longer than most tests."""

_FORKS.set_forkserver_preload(
    ["aiohttp", "aiokafka.admin", "hypothesis.strategies", "prometheus_client", "pytest", "structlog"]
)
_RAN: Final = 100
"""Added to pytest's exit codes; every other code means that pytest did not come to an end."""

_PASSED: Final = _RAN
_FAILED: Final = _RAN + 1


class Result(Struct, frozen=True):
    """What the tests made of one fault."""

    verdict: str
    """`caught`, `survived`, `equivalent`, or `error`."""
    seconds: float
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it is as the table says."""
        return self.verdict in {"caught", "equivalent"}


class Copies:
    """Copies of the repository, one for each run at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: asyncio.Queue[Path] = asyncio.Queue()
        for number in range(count):
            copy = folder / str(number)
            shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
            self._free.put_nowait(copy)

    async def complaint(self, files: Sequence[str], limit: float) -> str:
        """Run these tests without a fault; return pytest's output if they fail, which would make every result void."""
        copy = await self._free.get()
        try:
            code, output = await _run_tests(copy, files, limit)
        finally:
            self._free.put_nowait(copy)
        return "" if code == _PASSED else output or f"no result within {limit:.0f} s"

    async def result(self, fault: Fault, limit: float) -> Result:
        """Put the fault into a copy, run its tests, and take it out again."""
        copy = await self._free.get()
        began = time.monotonic()
        path = copy / fault.file
        original = path.read_text()
        try:
            path.write_text(applied(fault, copy))
            code, output = await _run_tests(copy, fault.tests, limit)
            verdict, detail = _judged(fault, code, output)
        except OutOfDate as error:
            verdict, detail = "error", str(error)
        finally:
            path.write_text(original)
            self._free.put_nowait(copy)
        return Result(verdict, time.monotonic() - began, detail)


def _judged(fault: Fault, code: int | None, output: str) -> tuple[str, str]:
    if code == _PASSED:
        return ("equivalent", fault.equivalent) if fault.equivalent else ("survived", fault.breaks)
    if code is None:
        return "error", "no result within the time limit, which tells nothing: raise --seconds"
    if code != _FAILED:
        return "error", f"the tests did not run:\n{output}"
    if fault.equivalent:
        return "error", "it is documented as equivalent, but a test notices it"
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "caught", (failed[0].partition(" - ")[0].rpartition("::")[2] if failed else "")


async def _run_tests(copy: Path, files: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Return pytest's exit code and the end of its output; the code is None if the time limit ended it."""
    output = copy.with_suffix(".out")
    process = _FORKS.Process(target=_in_copy, args=(copy, files, output))
    process.start()
    await asyncio.to_thread(process.join, limit)
    if process.is_alive():
        process.kill()
        await asyncio.to_thread(process.join)
        return None, ""
    return process.exitcode, output.read_text(errors="replace")[-4000:] if output.exists() else ""


def _in_copy(copy: Path, files: Sequence[str], output: Path) -> None:
    """Run the tests of the copy in this process, which was forked for that, and end it."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(copy)
    # No byte code: two faults within a second leave a file with the same time and perhaps the same size.
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in {"", str(ROOT)})]
    for name in [name for name in sys.modules if name.partition(".")[0] in {"consumer", "schemas", "tests"}]:
        del sys.modules[name]
    import pytest  # noqa: PLC0415 - only the forked processes need it

    code = pytest.main(["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", *files])
    sys.stdout.flush()
    os._exit(_RAN + code)
