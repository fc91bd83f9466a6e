"""The event loop that every command runs in, and the threads beside it."""

import asyncio
import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from consumer.stopping import on_stop

T = TypeVar("T")
P = ParamSpec("P")

_END_OF_TLS: Final = 1.0
_THREADS: Final = 32


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own, the faster one where it is installed.

    Its end waits for no thread: one may hang in a look-up of a name, or in a file of a server that is gone.

    Raises:
        KeyboardInterrupt: a signal cancelled the coroutine, which did not wait for signals itself.
    """
    interrupted = False

    async def supervised() -> T:
        task = asyncio.current_task()

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            if task is not None:
                task.cancel()

        with on_stop(interrupt):
            return await main

    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(supervised())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        main.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = _fast_loop() or asyncio.new_event_loop()
    loop.set_default_executor(DaemonThreads())
    return loop


def _fast_loop() -> asyncio.AbstractEventLoop | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None

    class Loop(uvloop.Loop):
        """Waits a second for the other side's end of TLS, not half a minute, and looks names up in Python's threads.

        With uvloop 0.23 that end is never noticed when an answer arrives during it, as a broker's to a fetch does:
        half of the `stop()`s of a consumer took those 30 s, and with asyncio's own loop none (seen on a broker).
        Its own threads for look-ups are waited for by the loop's end and by the process's.
        """

        async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
            return await self.run_in_executor(None, lambda: socket.getaddrinfo(host, port, **options))

        async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
            return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)

        async def create_connection(
            self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
        ) -> Any:
            if options.get("ssl"):
                options.setdefault("ssl_shutdown_timeout", _END_OF_TLS)
                if host and options.get("server_hostname") is None:
                    options["server_hostname"] = host
            failure: OSError | None = None
            for address in await self._addresses(host, port, options):
                try:
                    return await super().create_connection(protocol_factory, address, port, **options)
                except OSError as error:
                    failure = error
            raise failure or OSError(f"no address found for {host}")

        async def _addresses(self, host: Any, port: Any, options: dict[str, Any]) -> list[Any]:
            if not host or _is_address(host):
                return [host]
            look_up = {name: options[name] for name in ("family", "proto", "flags") if name in options}
            found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **look_up)
            return list(dict.fromkeys(address for *_, (address, *_) in found))

    return Loop()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class DaemonThreads(ThreadPoolExecutor):
    """Runs calls in daemon threads, which neither `shutdown` nor the end of the process waits for."""

    def __init__(self, most: int = _THREADS) -> None:
        """Use at most so many threads."""
        super().__init__(most)
        self._most = most
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads_started = 0
        self._closed = False
        self._mutex = threading.Lock()

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have a thread make the call."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._mutex:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.put(work)
            if not self._idle.acquire(blocking=False) and self._threads_started < self._most:
                self._threads_started += 1
                threading.Thread(target=self._serve, name=f"worker-{self._threads_started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as the base class has it
        """Take no more calls, and let idle threads end."""
        with self._mutex:
            self._closed = True
            for _ in range(self._threads_started):
                self._calls.put(None)

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
            del work  # the call and its result are kept alive no longer
            self._idle.release()
