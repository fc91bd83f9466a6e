"""The event loop that the commands run in."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from consumer.event_loop import run_loop
from tests.certificates import Authority


@pytest.fixture
def mute_server(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A TLS server that answers nothing, not even the end of TLS: its port, and a context that trusts it."""
    authority = Authority(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority.issue("server", "DNS:localhost,IP:127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[ssl.SSLSocket] = []

        def serve() -> None:
            connection, _ = listener.accept()
            accepted.append(serving.wrap_socket(connection, server_side=True))

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], ssl.create_default_context(cafile=authority.certificate)
        thread.join(5)
        accepted[0].close()


def test_it_does_not_wait_for_long_until_the_other_side_ends_tls(mute_server: tuple[int, ssl.SSLContext]) -> None:
    port, context = mute_server

    async def connect_and_close() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.close()
        limit = asyncio.timeout(15)  # by default it is 30 s
        with contextlib.suppress(OSError):  # it is cut off, after a while
            async with limit:
                await writer.wait_closed()
        assert not limit.expired()

    run_loop(connect_and_close())
