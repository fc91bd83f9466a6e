"""What can go wrong with a call, by what it means for the event behind it.

    ApiError
     ├── Rejected       400 409 422, 404 on a write   this contact, as it was sent
     ├── Unauthorized   401 403                       these credentials
     ├── UnknownList    404 on the list               this setting
     ├── Throttled      429, 503 with Retry-After     nobody: wait
     ├── LocalFault     no file descriptors, memory   this process or its machine
     └── Unavailable    408 425 5xx, sockets, bodies  nobody: try again
          ├── Unreachable   DNS, connection, TLS      nothing was sent
          └── TooLarge      over the size bound       ask for less at a time

`retryable` says whether the same sync, begun again with a fresh read, may succeed by itself. Messages name the
API, the operation and the status; they never hold a secret, an address or a whole body.
"""

from typing import ClassVar, Literal

Api = Literal["sesamy", "mailmojo"]


class ApiError(Exception):
    """A call that did not do what it was for.

    Attributes:
        api: whose call it was.
        operation: the call's name as the metrics know it, such as `get_contact`.
        status: the HTTP status, or None when no answer came.
        detail: what the API said, cut to 200 characters and without addresses; may be empty.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, api: Api, operation: str, status: int | None = None, detail: str = "") -> None:
        self.api = api
        self.operation = operation
        self.status = status
        self.detail = detail
        super().__init__(api, operation, status, detail)

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else f"HTTP {self.status}"
        return f"{self.api} {self.operation}: {answer}" + (f": {self.detail}" if self.detail else "")


class Rejected(ApiError):
    """The API refuses this request; final when refused again after a fresh read (`docs/reference/mailmojo.md`, 8)."""

    retryable = False


class Unauthorized(ApiError):
    """The API refuses these credentials, also after they were fetched or read again."""


class UnknownList(ApiError):
    """Mailmojo does not know the list of `MAILMOJO_LIST_ID`."""


class Throttled(ApiError):
    """The API asks to wait; the quota gate is closed until then."""


class LocalFault(ApiError):
    """This process or its machine could not send the request: no file descriptor, no memory, no local port."""


class Unavailable(ApiError):
    """No usable answer: a server error, a broken connection, a time-out or an unreadable body."""


class Unreachable(Unavailable):
    """There was no connection (DNS, refused, TLS, proxy, connect time-out), so nothing was sent."""


class TooLarge(Unavailable):
    """The response exceeds the bound on its size and was not read to its end."""
