"""The relay that stands in for a NAT gateway does what one does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.relay import Relay


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


@pytest.fixture
async def target() -> AsyncIterator[str]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield "{}:{}".format(*server.sockets[0].getsockname())
    server.close()


async def connect(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = relay.address.split(":")
    return await asyncio.open_connection(host, int(port))


async def test_bytes_pass_both_ways_until_a_connection_is_forgotten_and_a_new_one_works(target: str) -> None:
    async with Relay(target) as relay:
        reader, writer = await connect(relay)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        relay.forget()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)  # neither bytes nor an end
        again, writer_again = await connect(relay)
        writer_again.write(b"three")
        assert await again.readexactly(5) == b"three"
        assert (relay.accepted, relay.forgotten) == (2, 1)
        for open_writer in (writer, writer_again):
            open_writer.close()


async def test_an_idle_connection_is_forgotten(target: str) -> None:
    async with Relay(target, idle_timeout=0) as relay:
        reader, writer = await connect(relay)
        writer.write(b"one")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert relay.forgotten == 1
        writer.close()


async def test_an_end_is_passed_on(target: str) -> None:
    async with Relay(target) as relay:
        reader, writer = await connect(relay)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
