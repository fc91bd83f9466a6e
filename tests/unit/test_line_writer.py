"""Lines to a descriptor that may be slow, full or gone."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from consumer.line_writer import LineWriter, text_stream


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def lines(count: int, start: int = 0) -> list[bytes]:
    return [b"line %07d %s\n" % (number, b"x" * 80) for number in range(start, start + count)]


def read_all(reader: int) -> bytes:
    found = b""
    while chunk := os.read(reader, 65536):
        found += chunk
    return found


def test_lines_arrive_in_order_and_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = LineWriter(writer)
    sent = [*lines(300), b"a long one" * 5000 + b"\n", *lines(100, 300)]
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(read_all(reader)))
    reading.start()
    for line in sent:
        target.write(line)
    target.close(10)
    os.close(writer)
    reading.join(10)
    assert found == [b"".join(sent)]
    assert target.dropped == 0


def test_p1_a_pipe_that_is_not_read_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = LineWriter(writer, limit=100_000)
    resumed: list[int] = []
    target.resumed = resumed.append
    sent = lines(20_000)  # 2 MB: the pipe holds 64 KiB
    began = time.monotonic()
    for line in sent:
        target.write(line)
    target.close(0.2)
    assert time.monotonic() - began < 20
    assert target.dropped > 15_000

    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(read_all(reader)))
    reading.start()
    assert target._thread is not None
    target._thread.join(10)
    os.close(writer)
    reading.join(10)
    arrived = found[0].splitlines(keepends=True)
    assert arrived == [line for line in sent if line in set(arrived)]  # whole, in order
    assert len(arrived) == 20_000 - target.dropped
    assert resumed == [target.dropped]


def test_p1_a_full_disk_costs_lines() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        target = LineWriter(full.fileno())
        target.resumed = lambda _: target.write(b"never: it could not be written either\n")
        for line in lines(1000):
            target.write(line)
        target.close(5)
        assert target.dropped == 1000


def test_p1_a_pipe_without_a_reader_costs_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    target = LineWriter(writer)
    for line in lines(1000):
        target.write(line)
    target.close(5)
    assert target.dropped == 1000


def test_a_line_that_was_cut_by_a_full_disk_is_ended_before_the_next(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    _, writer = pipe
    arrived = b""
    room = 10

    def write(_descriptor: int, data: bytes) -> int:
        nonlocal arrived, room
        if not room:
            raise OSError(28, "No space left on device")
        part = bytes(data[:room])
        arrived, room = arrived + part, room - len(part)
        return len(part)

    target = LineWriter(writer)
    monkeypatch.setattr("consumer.line_writer.os.write", write)
    target._put(b"0123456789abc\n")
    room = 100
    target._put(b"next\n")
    assert arrived == b"0123456789\nnext\n"
    assert target.dropped == 1


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    target = LineWriter(writer)
    sent = lines(3000)
    for line in sent:
        target.write(line)
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(read_all(reader)))
    reading.start()
    target.close(10)
    os.close(writer)
    reading.join(10)
    assert found == [b"".join(sent)]


def test_as_a_text_file_it_hands_on_whole_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = LineWriter(writer)
    stream = text_stream(target)
    print("a", "b", file=stream)
    print("half", end="", file=stream)
    print(" \ud83d", file=stream)
    assert (stream.fileno(), stream.isatty()) == (writer, False)
    target.close(5)
    os.close(writer)
    assert read_all(reader) == b"a b\nhalf \\ud83d\n"
