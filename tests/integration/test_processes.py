import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.loadtest.processes import Child
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

_ROOT = Path(__file__).parents[2]
_DIE_BESIDE_A_CHILD = """
import os, pathlib, signal, sys
from consumer.loadtest.processes import Child
Child(["sleep", "60"], output=pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "output"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def nobody_writes_any_more() -> bool:
        try:
            return os.read(reader, 1) == b""
        except BlockingIOError:
            return False

    try:
        command = [sys.executable, "-c", _DIE_BESIDE_A_CHILD, str(fifo)]
        parent = await asyncio.to_thread(subprocess.run, command, cwd=_ROOT, check=False)
        assert parent.returncode == -signal.SIGKILL
        await wait_until(nobody_writes_any_more, what="the child of the killed process ends")
    finally:
        os.close(reader)


async def test_a_frozen_child_can_be_killed(tmp_path: Path) -> None:
    child = Child(["sleep", "60"], output=tmp_path / "output")
    child.freeze()
    child.kill()
    assert child.returncode == -signal.SIGKILL


async def test_waiting_for_a_service_that_ended_shows_its_output(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, {}, ("no-such-command",))
    try:
        with pytest.raises(AssertionError, match="the service ended with"):
            await service.ready()
    finally:
        service.kill()
