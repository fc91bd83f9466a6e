"""Keeps personal data and secrets out of logs, metrics, pages, dead-letter headers and exception texts (promise P8)."""

import json
import re

_secrets: dict[str, bytes] = {}
"""Every secret this process has held, and how it stands in JSON: an API may repeat in an error what it was sent."""

_SHORTEST = 8
"""Characters of a secret that is masked wherever it stands; a shorter one would tear words apart."""

_MOST_SECRETS = 100
"""The latest are kept: tokens are renewed for as long as the process runs."""

_ADDRESS = re.compile(
    r"\"[^\"]*\"@[^\s\"'<>(){}\[\],;:/?&]+|[^\s\"'<>(){}\[\],;:=/?&]+(?:@|%40)[^\s\"'<>(){}\[\],;:/?&]+", re.IGNORECASE
)


def mask_address(address: str) -> str:
    """Return the address with just enough left to recognise it: `a***@x.no`."""
    local, domain = re.split("@|%40", address.removeprefix('"'), maxsplit=1)
    return f"{local[:1]}***@{domain}"


def mask_addresses(text: str) -> str:
    """Return the text with every e-mail address in it masked, percent-encoded ones included, and every secret."""
    return _ADDRESS.sub(lambda match: mask_address(match.group()), mask_secrets(text))


def mask_secrets(text: str) -> str:
    """Return the text with every secret this process holds masked."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return text


def remember_secret(value: str) -> None:
    """Have the value masked from now on."""
    if len(value) >= _SHORTEST:
        _secrets.pop(value, None)
        _secrets[value] = json.dumps(value, ensure_ascii=False)[1:-1].encode(errors="replace")
        if len(_secrets) > _MOST_SECRETS:
            del _secrets[next(iter(_secrets))]


def is_clean(text: bytes) -> bool:
    """Tell whether there is surely nothing to mask in some JSON, without reading it value by value."""
    return not (b"@" in text or b"%40" in text or any(secret in text for secret in _secrets.values()))


def contains_address(text: str) -> bool:
    """Tell whether there is an e-mail address in the text."""
    return _ADDRESS.search(text) is not None
