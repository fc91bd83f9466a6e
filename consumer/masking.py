"""Keeps personal data out of logs, metrics, pages, dead-letter headers and exception texts (promise P8)."""

import re

_ADDRESS = re.compile(r"[^\s\"'<>(){}\[\],;:=/?&]+(?:@|%40)[^\s\"'<>(){}\[\],;:/?&]+", re.IGNORECASE)


def mask_address(address: str) -> str:
    """Return the address with just enough left to recognise it: `a***@x.no`."""
    local, domain = re.split("@|%40", address, maxsplit=1)
    return f"{local[:1]}***@{domain}"


def mask_addresses(text: str) -> str:
    """Return the text with every e-mail address in it masked, percent-encoded ones included."""
    return _ADDRESS.sub(lambda match: mask_address(match.group()), text)


def contains_address(text: str) -> bool:
    """Tell whether there is an e-mail address in the text."""
    return _ADDRESS.search(text) is not None
