"""The check that a caller makes at the moment when its request is sent."""

from contextlib import AbstractContextManager
from typing import Protocol

from consumer.clients.errors import Api


class RequestGuard(Protocol):
    """Decides whether each request of a turn may still be sent, and may observe it."""

    def sending(self, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        """Return a context that encloses the request from here until its response has been read.

        Called when the request has its credentials, its permit and its connection; nothing is awaited between this call
        and the write to the socket (with `SessionClient`, a turn of the event loop and perhaps connecting).
        An exception prevents the request: it reaches the caller, and the permit goes back to the quota.
        """

    def answered(self, api: Api, operation: str, body: bytes, /) -> None:
        """Take note of a response that was as expected, in status and content."""
