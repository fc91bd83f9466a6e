"""Keeps personal data and secrets out of logs, metrics, pages, dead-letter headers and exception texts (promise P8)."""

import json
import re
import string
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Final

from consumer.spellings import Spelled

_SHORTEST: Final = 8
"""Characters of a secret that is masked wherever it stands, also in base64."""

_SHORTEST_WORD: Final = 4
"""Characters of a secret that is masked where it is a word by itself; a shorter one is told from nothing."""

_MOST_SECRETS: Final = 100
"""The latest are kept: tokens are renewed for as long as the process runs."""

_MASK: Final = "***"

_PART: Final = re.compile(r"[^\s\"<>(){}\[\],;:=/?&]+")
"""What may be an address: text without the characters that stand around one."""

_LITERAL: Final = re.compile(r"\[[^\]\s]{1,64}\]")
_LONGEST_QUOTED: Final = 320
_LONGEST_BASE64: Final = 4096
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_BASE64_CHARS: Final = f"{string.ascii_letters}{string.digits}+/-_="
_ADDRESS_IN_BYTES: Final = re.compile(rb"(?<=[\w.+'-])@[a-zA-Z0-9-]{1,63}\.[a-zA-Z]")
_SUSPICIOUS: Final = (b"@", b"%", b"&", b"\\", b"=40", b"\xef", b"\xf0\x9d")
"""One of these stands in whatever has an address in it, or a secret that is escaped."""

_Span = tuple[int, int, str]


class _Remembered:
    """The ways in which one secret can stand in a text."""

    def __init__(self, value: str) -> None:
        self.is_word = len(value) < _SHORTEST
        self.folded = _folded(Spelled(value).text)
        base64 = set() if self.is_word else _in_base64(value.encode(errors="replace"))
        self.base64 = {_folded(form) for form in base64}
        forms = {value, value.replace(" ", "+"), value.replace("+", " ")}
        self.in_json = [json.dumps(form, ensure_ascii=False)[1:-1].encode(errors="replace") for form in forms]


_secrets: dict[str, _Remembered] = {}


def mask_addresses(text: str) -> str:
    """Return the text with every e-mail address in it masked, and every secret, however they are escaped.

    Just enough of an address is left to recognise it: `a***@x.no`.
    """
    spelled = Spelled(text)
    return _replaced(text, [*_secret_spans(spelled), *_address_spans(spelled)])


def mask_secrets(text: str) -> str:
    """Return the text with every secret this process holds masked."""
    return _replaced(text, list(_secret_spans(Spelled(text))))


def remember_secret(value: str) -> None:
    """Have the value masked from now on: an API may repeat in an error what it was sent."""
    if len(value) >= _SHORTEST_WORD:
        _secrets.pop(value, None)
        _secrets[value] = _Remembered(value)
        if len(_secrets) > _MOST_SECRETS:
            del _secrets[next(iter(_secrets))]


def is_clean(text: bytes) -> bool:
    """Tell whether there is surely nothing to mask in some JSON, without reading it value by value.

    Base64 is not looked into: texts of APIs, where it may be, are masked when they are received.
    """
    for mark in _SUSPICIOUS:
        if mark in text:
            return False
    for secret in _secrets.values():
        for form in secret.in_json:
            if form in text:
                return False
    return True


def contains_address(text: str) -> bool:
    """Tell whether there is an e-mail address in the text."""
    return next(_address_spans(Spelled(text)), None) is not None


def _replaced(text: str, spans: list[_Span]) -> str:
    """Return the text with these parts replaced; parts that overlap become one mask."""
    parts: list[str] = []
    at = 0
    for start, end, mask in _merged(sorted(spans)):
        parts += (text[at:start], mask)
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _merged(spans: list[_Span]) -> Iterator[_Span]:
    merged: _Span | None = None
    for span in spans:
        if merged is None or span[0] >= merged[1]:
            if merged is not None:
                yield merged
            merged = span
        elif span != merged:
            merged = merged[0], max(merged[1], span[1]), _MASK
    if merged is not None:
        yield merged


def _address_spans(spelled: Spelled) -> Iterator[_Span]:
    text = spelled.text
    if "@" in text:
        for match in _PART.finditer(text):
            if "@" in match[0] and (found := _address_span(text, *match.span())) is not None:
                start, end, mask = found
                yield *spelled.span(start, end), mask
    for match in _BASE64.finditer(text):
        if _ADDRESS_IN_BYTES.search(_decoded(match[0])):
            yield *spelled.span(*match.span()), _MASK


def _address_span(text: str, start: int, end: int) -> _Span | None:
    """Return the address in a part of the text without delimiters, with what may stand on either side of it."""
    first, last = text.index("@", start, end), text.rindex("@", start, end)
    local = text[start:first].lstrip("'`")
    start = first - len(local)
    if not local and text[start - 1 : start] == '"':  # a quoted one
        start = text.rfind('"', max(0, start - _LONGEST_QUOTED), start - 1)
        if start < 0:
            return None
        if before := _PART.match(text[max(0, start - _LONGEST_QUOTED) : start][::-1]):
            start -= before.end()
        local = text[start:first].strip('"')
    domain = text[last + 1 : end].rstrip("'`.")
    if not domain and (literal := _LITERAL.match(text, end)):
        domain = literal[0]
    if not (local and domain):
        return None
    first_letter = local[0] if local[0].isalnum() else ""
    return start, last + 1 + len(domain), f"{first_letter}{_MASK}@{domain}"


def _secret_spans(spelled: Spelled) -> Iterator[_Span]:
    raw, text = spelled.raw, _folded(spelled.text)
    for value, secret in _secrets.items():
        for start, end in _found(raw, value, whole=secret.is_word):
            yield start, end, _MASK
        for start, end in _found(text, secret.folded, whole=secret.is_word):
            yield *spelled.span(start, end), _MASK
        for form in secret.base64:
            for start, end in _found(text, form):
                yield *spelled.span(*_whole_base64(spelled.text, start, end)), _MASK


def _found(text: str, part: str, *, whole: bool = False) -> Iterator[tuple[int, int]]:
    """Yield where the part is in the text, or with `whole` where it is a word by itself."""
    start = text.find(part)
    while start >= 0:
        end = start + len(part)
        if not (whole and (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())):
            yield start, end
        start = text.find(part, end)


def _whole_base64(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the place of all the base64 around a part of it."""
    before, after = text[max(0, start - _LONGEST_BASE64) : start], text[end : end + _LONGEST_BASE64]
    return start - len(before) + len(before.rstrip(_BASE64_CHARS)), end + len(after) - len(after.lstrip(_BASE64_CHARS))


def _folded(text: str) -> str:
    """Return the text with a space for each plus sign: in a form either stands for the other."""
    return text.replace("+", " ")


def _in_base64(secret: bytes) -> set[str]:
    """Return what of the secret's base64 does not depend on its neighbours, for each place it may have there."""
    found = set()
    for before, skipped in ((0, 0), (1, 2), (2, 3)):
        encoded = b64encode(b"\0" * before + secret).decode()[skipped : (before + len(secret)) * 8 // 6]
        found |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return found


def _decoded(base64: str) -> bytes:
    text = base64.rstrip("=").replace("-", "+").replace("_", "/")
    return a2b_base64(text[: len(text) // 4 * 4])  # a byte or two at the end do not matter here
