"""The proxy that HTTP requests leave through: `HTTPS_PROXY` and `NO_PROXY`, read as other tools read them.

Plain http is for this machine only, and never leaves through a proxy.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from consumer.masking import remember_secret
from consumer.secret import Secret
from consumer.settings.urls import proxy_url

_NO_SECRET = Secret()


class Proxy(Struct, frozen=True):
    """An HTTP proxy. Its URL holds no credentials."""

    variable: str
    """The environment variable that names it, as it was written."""
    url: str
    authorization: Secret = _NO_SECRET
    """The value of `Proxy-Authorization`; empty for a proxy without credentials."""


class Proxies(Struct, frozen=True):
    """Which requests leave through a proxy."""

    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()
    """Hosts, domains, addresses and networks that are reached directly; `*` stands for all."""

    def of(self, host: str, port: int) -> Proxy | None:
        """Return the proxy for https requests to this host; None when they leave directly."""
        return None if any(_covers(one, host, port) for one in self.exceptions) else self.https


def proxies_of(environ: Mapping[str, str]) -> Proxies:
    """Return what the environment says.

    Lower case goes before upper case, and an empty value means none. Credentials are masked from now on.

    Raises:
        ValueError: a proxy's URL is wrong. The text begins with the variable and does not hold the value.
    """
    variable, value = _first(environ, "https_proxy", "HTTPS_PROXY")
    _, exceptions = _first(environ, "no_proxy", "NO_PROXY")
    return Proxies(
        _proxy(variable, value) if value else None,
        tuple(exceptions.replace(",", " ").lower().split()),
    )


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    return next(((name, value) for name in names if (value := environ.get(name, "").strip())), ("", ""))


def _proxy(variable: str, value: str) -> Proxy:
    try:
        parts = urlsplit(proxy_url(value))
    except ValueError as error:
        raise ValueError(f"{variable} {error}") from None
    credentials, at, address = parts.netloc.rpartition("@")
    if not at:
        return Proxy(variable, f"http://{address}")
    user, _, password = credentials.partition(":")
    for secret in (password, credentials):
        remember_secret(secret)
    user, password = unquote(user), unquote(password)
    if ":" in user:
        raise ValueError(f"{variable} must have a user name without a colon")
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    for secret in (password, encoded):
        remember_secret(secret)
    return Proxy(variable, f"http://{address}", Secret(f"Basic {encoded}"))


def _covers(exception: str, host: str, port: int) -> bool:
    """Tell whether an entry of `NO_PROXY` means this host: a name means the names below it as well."""
    if exception == "*":
        return True
    host = host.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception.strip("[]"), strict=False)
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{exception}")
        name, of_port = parts.hostname or "", parts.port
    except ValueError:
        return False
    name = name.removeprefix("*").removeprefix(".").removesuffix(".")
    return of_port in {None, port} and bool(name) and (host == name or host.endswith(f".{name}"))
