"""A server that sends bytes as a test says, from a thread of its own: the client's loop is measured without it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Send = Callable[[bytes], None]
Script = Callable[[int, Send], None]
"""Answers the request with this number, from 1; the connection is closed when it raises, and kept otherwise."""

_LONGEST = 20.0


class RawServer:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self.connections = 0
        self.requests = 0
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_LONGEST)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_LONGEST)
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=[connection], daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        def send(data: bytes) -> None:
            if self.over.is_set():
                raise ConnectionError
            connection.sendall(data)
            self.sent += len(data)

        with connection:
            pending = b""
            while True:
                try:
                    while b"\r\n\r\n" not in pending:
                        received = connection.recv(65_536)
                        if not received:
                            return
                        pending += received
                    pending = pending.partition(b"\r\n\r\n")[2]
                    self.requests += 1
                    self._script(self.requests, send)
                except OSError:
                    return


@contextmanager
def raw_server(script: Script) -> Iterator[RawServer]:
    server = RawServer(script)
    try:
        yield server
    finally:
        server.stop()


def endless(data: bytes) -> Script:
    """Send the same again and again, to every request."""

    def script(_: int, send: Send) -> None:
        while True:
            send(data)

    return script


def after(head: bytes, data: bytes, pause: float = 0.0) -> Script:
    """Send a beginning, and then the same again and again."""

    def script(_: int, send: Send) -> None:
        send(head)
        while True:
            send(data)
            if pause:
                time.sleep(pause)

    return script


def once(data: bytes) -> Script:
    return lambda _, send: send(data)
