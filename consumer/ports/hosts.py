"""Which `Host` headers a port answers: a page whose name was made to lead here (DNS rebinding) can read nothing."""

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import orjson
from aiohttp import HttpVersion11, web

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.~%-]+)?)\]|([\w.-]+))(?::\d{0,5})?", re.ASCII)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Hosts:
    """The names under which a port may be addressed.

    An address (IPv4 or IPv6) always will do, as probes and Prometheus use the pod's, and so do `localhost` and this
    machine's host name: none of them can be made to lead here by the owner of a domain.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Allow these as well; one that begins with a dot stands for all names below it."""
        names = {"localhost", socket.gethostname(), *allowed}
        self._names = frozenset(name.lower().removeprefix("*").rstrip(".") for name in names if name)

    def allows(self, authority: str) -> bool:
        """Tell whether a request may name this host, with or without a port."""
        found = _AUTHORITY.fullmatch(authority)
        if _is_address(authority):
            return True
        if found is None:
            return False
        if found[1] is not None:
            return _is_address(found[1])
        name = found[2].lower().removesuffix(".")
        parents = {name[at:] for at, character in enumerate(name) if character == "." and at}
        return _is_address(name) or name in self._names or not parents.isdisjoint(self._names)

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Reject a request that names no host, several, or a foreign one, whatever it asks for."""
        given = request.headers.getall("Host", [])
        if len(given) > 1 or (not given and request.version >= HttpVersion11):
            return _refuse(400, "a request names its host once")
        # A request target with a host of its own (`GET http://host/`) counts instead of the header.
        if given and not (self.allows(given[0]) and self.allows(request.host or "")):
            return _refuse(421, "this host is not served here; ADMIN_ALLOWED_HOSTS can name it")
        return await handler(request)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.replace("%25", "%"))
    except ValueError:
        return False
    return True


def _refuse(status: int, error: str) -> web.Response:
    return web.Response(body=orjson.dumps({"error": error}), status=status, content_type="application/json")
