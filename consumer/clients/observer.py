"""Observes the requests of an API: adds the trace context, measures the duration, turns failures into `ApiError`."""

import errno
import socket
import ssl
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from consumer.clients.bounds import Progress, ResponseTooLargeError, UnreadableResponseError
from consumer.clients.errors import Api, ApiError, LocalFault, TooLarge, Unavailable, Unreachable
from consumer.clients.http import HttpClient
from consumer.ops.metrics import Metrics

_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
_LOCAL_LOOKUP_ERRORS: Final = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})
"""What says that this process or its machine has too little of something."""


class RequestObserver:
    """Observes the requests that one HTTP client sends to an API."""

    def __init__(
        self,
        api: Api,
        http: HttpClient,
        metrics: Metrics,
        inject: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        """`inject` adds the trace context to a request's headers, where requests are traced."""
        self._api = api
        self._http = http
        self._duration = cache(partial(metrics.api_request_duration.labels, api))
        self._inject = inject

    def begin(self, headers: dict[str, str]) -> float:
        """Add the trace context to the headers of a request that is about to be sent, and return when it began."""
        if self._inject is not None:
            self._inject(headers)
        return time.perf_counter()

    def answered(self, operation: str, began: float, status: int) -> None:
        """Count a request that got its whole response."""
        self._duration(operation, str(status)).observe(time.perf_counter() - began)

    def failed(self, operation: str, began: float, error: BaseException, state: Progress) -> ApiError | None:
        """Count a request that failed, and return what the error means, without host or URL; None for a cancellation.

        `Unavailable`: no answer, not in time (`Unreachable`: no connection), unreadable or too large (`TooLarge`);
        `LocalFault`: this process could not send it.
        """
        self._duration(operation, "error").observe(time.perf_counter() - began)
        return self._failure(operation, error, state) if isinstance(error, Exception) else None

    def _failure(self, operation: str, error: Exception, state: Progress) -> ApiError:
        """Return what the error means, without host or URL."""
        about, http = (self._api, operation, state.status), self._http
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return Unreachable(*about, f"no connection within {http.connect_timeout:g} s{http.through}")
        if isinstance(error, TimeoutError) and error.errno is None:
            if state.sent:
                answer = "no answer" if state.status is None else "no complete answer"
                return Unavailable(*about, f"{answer} within {http.timeout:g} s")
            return Unreachable(*about, f"no connection within {http.timeout:g} s{http.through}")
        if isinstance(error, ResponseTooLargeError):
            return TooLarge(*about, str(error))
        if isinstance(error, UnreadableResponseError):
            return Unavailable(*about, str(error))
        if _is_local(error):
            return LocalFault(*about, _reason(error))
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return Unreachable(*about, f"no connection{http.through}, which answered HTTP {error.status}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Unreachable(*about, f"{_reason(error)}{http.through}")
        return Unavailable(*about, _reason(error))


def _cause(error: Exception) -> Exception:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _is_local(error: Exception) -> bool:
    """Tell a fault of this process or its machine from one of the network or the server."""
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        return cause.errno in _LOCAL_LOOKUP_ERRORS
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        return cause.errno in _LOCAL_ERRORS
    # An unexpected exception is a mistake in this program, or in a library.
    return not isinstance(error, aiohttp.ClientError | HttpProcessingError | ValueError | OSError | EOFError)


def _is_malformed_body(error: Exception) -> bool:
    """Tell a body that breaks the protocol from one that breaks off.

    aiohttp reports the former as the parser's own error only if it arrives in one piece with the head.
    """
    cause = error.__cause__
    return (
        isinstance(error, aiohttp.ClientPayloadError)
        and isinstance(cause, HttpProcessingError)
        and not isinstance(cause, PayloadEncodingError)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the server's certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError) or _is_malformed_body(error):
        return "a response that is not valid HTTP"
    cause = _cause(error)
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection: {getattr(cause, 'reason', None) or type(cause).__name__}"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
