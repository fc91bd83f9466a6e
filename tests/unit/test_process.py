"""The program as a process: signals at any moment, streams that are closed, full or not read, and its exit codes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from consumer.cli.interrupting import interruptible
from consumer.event_loop import run_loop
from consumer.stopping import on_stop, stopping

SETTINGS = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "open-sesame",
    "SESAMY_API_URL": "http://127.0.0.1:1",
    "SESAMY_TOKEN_URL": "http://127.0.0.1:1/token",
    "MAILMOJO_API_TOKEN": "token-of-mailmojo",
    "MAILMOJO_API_URL": "http://127.0.0.1:1",
    "MAILMOJO_LIST_ID": "7",
    "INGEST_SECRET": "secret-of-ingest",
    "ADMIN_PORT": "0",
    "INGEST_PORT": "0",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
}
_started: "list[subprocess.Popen[str]]" = []
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ROOT = Path(__file__).parents[2]


def environment(**settings: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(_ROOT))))
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, **SETTINGS, **settings}


def start(*arguments: str, before: str = "", **settings: str) -> "subprocess.Popen[str]":
    """Start the program in a shell that does `before` first, such as closing a stream."""
    command = f'{before} exec "$0" -m consumer "$@"'
    process = subprocess.Popen(
        ["/bin/sh", "-c", command, sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**settings),
    )
    _started.append(process)
    return process


@pytest.fixture(autouse=True)
def _end_what_was_started() -> Iterator[None]:
    yield
    for process in _started:
        process.kill()
        process.communicate()
    _started.clear()


def catches(process: int, number: int) -> bool:
    """Tell whether the process has a handler for the signal."""
    (mask,) = [
        line.split()[1]
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        if line.startswith("SigCgt:")
    ]
    return bool(int(mask, 16) & 1 << (number - 1))


def until_it_catches(process: int, number: int) -> None:
    deadline = time.monotonic() + 60
    while not catches(process, number):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def mute_broker() -> Iterator[str]:
    """An address where connections are accepted, and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run"], 0),
        (["ingest"], 0),
        (["sandbox"], 0),
        (["check"], 130),
        (["sync", "u"], 130),
        (["demo"], 130),
        (["backfill"], 130),
        (["load-test"], 130),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_p2_a_signal_during_the_imports_ends_the_process_in_order(
    arguments: list[str], code: int, number: signal.Signals, mute_broker: str
) -> None:
    process = start(*arguments, KAFKA_BOOTSTRAP_SERVERS=mute_broker)
    until_it_catches(process.pid, signal.SIGHUP)  # the last of them, long before the last import
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said


@pytest.mark.parametrize("number", SIGNALS)
def test_p2_a_signal_while_kafka_does_not_answer_ends_the_service_in_order(
    number: signal.Signals, mute_broker: str
) -> None:
    process = start("run", KAFKA_BOOTSTRAP_SERVERS=mute_broker, LOG_FORMAT="json")
    assert process.stderr is not None
    started = json.loads(process.stderr.readline())
    process.send_signal(number)
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, started["event"]) == (0, "service.started")
    assert [json.loads(line)["event"] for line in said.splitlines()] == ["service.stopped"]
    assert time.monotonic() - began < 30
    assert {"version", "topic", "group", "list", "dry_run"} <= started.keys()


def test_p2_the_first_process_of_a_container_obeys_sigterm(mute_broker: str) -> None:
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "consumer", "run"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(KAFKA_BOOTSTRAP_SERVERS=mute_broker),
    )
    _started.append(process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    first = ""
    while not first and process.poll() is None:
        with suppress(FileNotFoundError):
            first = children.read_text(encoding="ascii").strip()
    if not first:
        pytest.skip("no process may be the first one of a namespace here")
    try:
        until_it_catches(int(first), signal.SIGHUP)
        os.kill(int(first), signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(first), signal.SIGKILL)
    assert process.returncode == 0, said


def test_p2_nohup_keeps_its_meaning(mute_broker: str) -> None:
    process = start("run", before="trap '' HUP;", KAFKA_BOOTSTRAP_SERVERS=mute_broker)
    assert process.stderr is not None
    assert "service.started" in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.5)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_p2_a_command_that_does_not_wait_for_signals_is_cancelled_by_them(number: signal.Signals) -> None:
    ended: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("in order")

    before = [signal.getsignal(it) for it in SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        run_loop(work())
    assert ended == ["in order"]
    assert [signal.getsignal(it) for it in SIGNALS] == before


def test_p2_a_second_signal_interrupts_the_orderly_end_of_a_command() -> None:
    reached: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            reached.append("first")
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(60)
            reached.append("never")

    with pytest.raises(KeyboardInterrupt):
        run_loop(interruptible(work()))
    assert reached == ["first"]


async def test_a_service_that_has_begun_is_not_cancelled_by_signals() -> None:
    with stopping() as stop:
        stop.begun()
        for number in SIGNALS:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        await asyncio.wait_for(stop.requested.wait(), 60)


async def test_a_service_that_starts_is_left_by_the_first_signal() -> None:
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    assert stop.requested.is_set()
    assert (task := asyncio.current_task()) is not None
    assert not task.cancelling()


async def test_p3_a_shutdown_that_hangs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    ended = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr("consumer.stopping.os._exit", end)
    with stopping(within=0.01) as stop:
        stop.begun()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.requested.wait()
        ended.wait(10)  # as a call does that blocks the event loop
    assert codes == [1]
    assert capsys.readouterr().err == ("sesamy-mailmojo: not stopped within 0.01 s (SHUTDOWN_TIMEOUT); ended anyway\n")


async def test_a_cancellation_by_others_is_no_signal() -> None:
    with pytest.raises(asyncio.CancelledError), stopping():
        raise asyncio.CancelledError


async def test_the_innermost_of_several_hears_a_signal() -> None:
    heard: list[str] = []

    async def send() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)

    with on_stop(lambda: heard.append("outer")):
        with on_stop(lambda: heard.append("inner")):
            await send()
        await send()
    assert heard == ["inner", "outer"]


@pytest.mark.parametrize(
    ("arguments", "before", "code"),
    [
        (["run", "--help"], "exec 2>/dev/full;", 0),
        (["run", "--help"], "exec 2>&-;", 0),
        (["run", "--help"], "exec >/dev/full;", 1),
        (["run"], "exec 2>/dev/full;", 1),  # Kafka is out of reach
        (["run"], "exec 2>&-;", 1),
        (["run"], "exec >&-;", 1),
        (["run"], "exec <&- >&- 2>&-;", 1),
        (["walk"], "exec 2>/dev/full;", 2),
        (["check"], "exec >/dev/full;", 1),
        (["check"], "exec >&-;", 1),
        (["dead-letters", "export"], "exec >&-;", 1),
        (["reconcile"], "exec <&-;", 2),
    ],
)
def test_p1_streams_that_are_full_or_closed_do_not_change_the_exit_code(
    arguments: list[str], before: str, code: int
) -> None:
    process = start(*arguments, before=before)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize("before", ["exec >/dev/full;", "exec >&-;"])
def test_p10_a_result_that_cannot_be_printed_is_a_failure_that_names_standard_output(before: str) -> None:
    process = start("check", before=before)
    _, said = process.communicate(timeout=60)
    (line,) = said.splitlines()
    assert line.startswith("sesamy-mailmojo: cannot write to standard output: ")
    assert process.returncode == 1


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_p10_help_is_printed_in_any_encoding(encoding: dict[str, str]) -> None:
    process = start("run", "--help", **encoding)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert "KAFKA_TOPIC" in out


@pytest.mark.parametrize("stderr", ["a pipe that is not read", "a pipe without a reader", "a full disk"])
def test_p1_a_log_that_is_not_read_does_not_hold_up_the_end(stderr: str, mute_broker: str) -> None:
    reader, writer = os.pipe()
    if stderr == "a pipe that is not read":
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, b"x" * 4096):
                pass
        os.set_blocking(writer, True)
    elif stderr == "a pipe without a reader":
        os.close(reader)
    else:
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "run"],
        stderr=writer,
        env=environment(KAFKA_BOOTSTRAP_SERVERS=mute_broker, LOG_LEVEL="debug"),
    )
    os.close(writer)
    try:
        time.sleep(1.5)
        process.terminate()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        if stderr == "a pipe that is not read":
            os.close(reader)
