"""`python -m tests.chaos.stopping_service`: the program, which stops its own process at a write when told to.

`python -m tests.chaos.freeze --at-the-send` tells it by an order, a file next to which the process reports where it
stopped. Without an order it is the program as it is.
"""

import os
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from consumer.__main__ import main
from consumer.clients.errors import Api
from consumer.stream.flight import Flight

Moment: TypeAlias = Literal["before the check", "between check and write"]

FOLDER: Final = "STOPPING_SERVICE_FOLDER"
"""The environment variable with the folder of the orders and reports."""


class Order(Struct, frozen=True):
    """Stop at the n-th write from now on, at this moment of it."""

    moment: Moment
    nth: int


class Stopped(Struct, frozen=True):
    """Whose write the process stopped at, and at which monotonic second."""

    user_id: str
    at: float


def order_path(folder: Path, client_id: str) -> Path:
    """Return where an instance looks for its order; it removes the file when it has read it."""
    return folder / f"{client_id}.order"


def report_path(folder: Path, client_id: str) -> Path:
    """Return where an instance reports right before it stops."""
    return folder / f"{client_id}.stopped"


class _Stopper:
    """Wraps the check of the lease, which is one step with the write that follows it."""

    def __init__(self, folder: Path, client_id: str) -> None:
        self._order_path = order_path(folder, client_id)
        self._report_path = report_path(folder, client_id)
        self._order: Order | None = None
        self._left = 0
        self._check = Flight.sending

    def install(self) -> None:
        stopper = self

        def sending(flight: Flight, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
            return stopper.sending(flight, api, operation, writes=writes)

        setattr(Flight, "sending", sending)  # noqa: B010 - mypy refuses a plain assignment to a method

    def sending(self, flight: Flight, api: Api, operation: str, *, writes: bool) -> AbstractContextManager[None]:
        moment = self._due() if writes else None
        if moment == "before the check":
            self._stop(flight)
        context = self._check(flight, api, operation, writes=writes)
        if moment == "between check and write":
            self._stop(flight)
        return context

    def _due(self) -> Moment | None:
        if self._order is None and self._order_path.exists():
            self._order = msgspec.json.decode(self._order_path.read_bytes(), type=Order)
            self._order_path.unlink()
            self._left = self._order.nth
        if self._order is None:
            return None
        self._left -= 1
        if self._left:
            return None
        moment, self._order = self._order.moment, None
        return moment

    def _stop(self, flight: Flight) -> None:
        report = self._report_path.with_suffix(".part")
        report.write_bytes(msgspec.json.encode(Stopped(flight.user_id, time.monotonic())))
        report.rename(self._report_path)
        # To this thread: a signal to the process may be taken by another thread, and this one would run on meanwhile.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


if __name__ == "__main__":
    _Stopper(Path(os.environ[FOLDER]), os.environ["KAFKA_CLIENT_ID"]).install()
    sys.exit(main())
