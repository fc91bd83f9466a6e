"""URLs, host names and lists of servers in settings. A ValueError says what the text must be."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from consumer.settings.parsers import words

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PATH = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_LONGEST_LABEL = 63
_LONGEST_HOST = 253


def url(value: str) -> str:
    """Return an https URL, or an http one of this machine; credentials have settings of their own."""
    parts = _split(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.netloc or "?" in value or "#" in value:
        raise ValueError("must be a URL such as https://host/path, with neither query nor fragment")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials; they have settings of their own")
    _check_authority(parts)
    if not _PATH.fullmatch(parts.path):
        raise ValueError("must be a URL such as https://host/path; percent-encode other characters in its path")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(
            "must start with https:// (plain http is accepted for this machine only: localhost, 127.0.0.1)"
        )
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def base_url(value: str) -> str:
    """Return a `url` without the slash at its end, to put paths behind."""
    return url(value).rstrip("/")


def proxy_url(value: str) -> str:
    """Return an http URL of a proxy, which may hold credentials; `host:port` is taken for one."""
    parts = _split(value if "://" in value else f"http://{value}")
    if parts is None or parts.scheme != "http" or not parts.netloc or parts.path.strip("/") or "?" in value:
        raise ValueError("must be the URL of an HTTP proxy such as http://proxy.example:3128")
    _check_authority(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return parts._replace(path="", fragment="").geturl()


def host(value: str) -> str:
    """Return a host name or an IP address."""
    if problem := _host_problem(value):
        raise ValueError(f"must be a host name or an IP address: {problem}")
    return value


def servers(value: str) -> str:
    """Return comma-separated `host` or `host:port`, without blanks."""
    found = words(value)
    if not found:
        raise ValueError("must be host:port, or several separated by commas")
    for server in found:
        parts = _split(f"//{server}")
        if parts is None or parts.netloc != server or "@" in server:
            raise ValueError("must be host:port, or several separated by commas")
        _check_authority(parts)
    return ",".join(found)


def is_loopback(name: str) -> bool:
    """Tell whether this is a name or an address of this machine."""
    if name.lower().removesuffix(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split(value: str) -> SplitResult | None:
    """Return the parts of a text of visible ASCII characters whose port, if any, is a number up to 65535."""
    if not re.fullmatch(r"[!-~]{1,2000}", value) or "\\" in value:
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port  # checked on access only
    except ValueError:
        return None
    return parts


def _check_authority(parts: SplitResult) -> None:
    if parts.port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535, or none")
    name = parts.hostname or ""
    problem = _host_problem(name)
    if parts.netloc.startswith("[") and ":" not in name:
        problem = "only an IPv6 address stands in brackets"
    if problem:
        raise ValueError(f"must have a host that can be looked up: {problem}")


def _host_problem(name: str) -> str | None:
    """Return what is wrong with a host name or IP address; None when it can be looked up."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return "an address with a zone is not supported" if "%" in name else None
    if not name.isascii():
        return "write it in ASCII, an international name as xn--…"
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        return "a part of its name is empty" if name.strip(".") else "it is empty"
    if len(name) > _LONGEST_HOST or max(map(len, labels)) > _LONGEST_LABEL:
        return f"a name has {_LONGEST_HOST} characters at most, and {_LONGEST_LABEL} between two dots"
    if not all(map(_LABEL.fullmatch, labels)):
        return "a name consists of letters, digits and - between dots"
    if _NUMERIC.fullmatch(labels[-1]):
        return "it is not a valid IP address"
    if any(label.lower().startswith("xn--") and not _is_punycode(label[4:]) for label in labels):
        return "a part that starts with xn-- is not valid Punycode"
    return None


def _is_punycode(text: str) -> bool:
    try:
        return bool(text.encode().decode("punycode"))
    except ValueError:
        return False
