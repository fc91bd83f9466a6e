"""The processes of a load test: none is left behind, and each end is told."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consumer.failure import Failure
from consumer.loadtest.fakes import Fakes, _Announcement
from consumer.loadtest.instances import Group, Instance
from consumer.loadtest.processes import Child
from tests.waiting import wait_until

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


async def started(folder: Path, code: str) -> Child:
    """Return a Python process that has said something."""
    output = folder / "output"
    child = Child([sys.executable, "-c", code], output=output)
    await wait_until(lambda: output.stat().st_size > 0, what="its first word")
    return child


async def test_instances_end_though_the_wait_for_their_end_is_cancelled(tmp_path: Path) -> None:
    child = await started(tmp_path, STUBBORN)

    class Stubborn(Instance):
        def __init__(self) -> None:
            self._child = child
            self.told = asyncio.Event()

        def terminate(self) -> None:
            super().terminate()
            self.told.set()

    instance = Stubborn()
    group = Group()

    async def use() -> None:
        async with group:
            group.instances.append(instance)

    using = asyncio.create_task(use())
    await instance.told.wait()
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    assert child.returncode == -9
    assert group.session.closed


async def test_a_sandbox_that_ended_before_it_was_told_to_left_no_whole_log(tmp_path: Path) -> None:
    child = Child(["true"], output=tmp_path / "output")
    await wait_until(lambda: child.returncode is not None, what="its end")
    said = _Announcement(environment={}, control_url="http://127.0.0.1:1")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Failure, match="the sandbox ended with exit code 0; its log is not whole"):
            await Fakes(child, said, tmp_path / "requests.ndjson", session).stop()
    child.kill()


def test_a_process_that_nothing_can_guard_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def one_only(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        if started:
            raise BlockingIOError
        started.append(start(*args, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", one_only)
    with pytest.raises(BlockingIOError):
        Child(["sleep", "60"], output=tmp_path / "output")
    code = started[0].returncode
    started[0].kill()
    started[0].wait()
    assert code == -9
