"""Mailmojo's REST API: the contact that a sync reads and the bodies it writes (`docs/reference/mailmojo.md`)."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import force_setattr, replace

from schemas.decoding import convert, decode_json, refuse_failure
from schemas.json_text import decode_tolerantly, without_halves
from schemas.verbatim import Verbatim, elements, members, text_of

T = TypeVar("T")


class ListAssociation(Struct, frozen=True, kw_only=True):
    """A contact's place on one list. Status: a = active, u = unsubscribed, b = bounced, d = deleted (assumption)."""

    list_id: int | str
    status: str | None = None

    def __post_init__(self) -> None:
        """Read a blank status as none. A blank list id is no id."""
        if self.list_id == "":
            raise ValueError("`list_id` is blank")
        if self.status == "":
            force_setattr(self, "status", None)


class Contact(Struct, frozen=True, kw_only=True):
    """A contact as Mailmojo answers it. `null`, `""` and a missing key all mean "no value".

    `custom` and `tags` are as they came, blank values of `custom` included: they are written back whole.
    `decode_contact` makes `custom` an object, and its values and some of the texts what they are in JSON
    (`schemas.verbatim`).
    """

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    tags: list[str] | None = None
    custom: dict[str, Any] | None = None
    status: str | None = None
    list_associations: list[ListAssociation] | None = None

    def __post_init__(self) -> None:
        """Read blank texts as no value."""
        if not self.email:
            raise ValueError("`email` is blank")
        for name in _TEXTS:
            if getattr(self, name) == "":
                force_setattr(self, name, None)
        if self.tags and "" in self.tags:
            force_setattr(self, "tags", [tag for tag in self.tags if tag])


class AccountField(Struct, frozen=True, kw_only=True):
    """An account (custom) field: what `GET` of the fields path lists and `POST` creates (assumption).

    `type` is one of `text`, `boolean`, `number` and `date`.
    """

    name: str
    type: str | None = None


class Received(dict[str, Any]):
    """A contact's `custom` as Python sees it, and the answer that it came in."""

    __slots__ = ("body",)

    body: bytes


class _Custom(Struct, frozen=True):
    custom: dict[str, Raw] | None = None


class _Tags(Struct, frozen=True):
    tags: list[Raw] | None = None


_contact: Final = msgspec.json.Decoder(Contact)
_raw_custom: Final = msgspec.json.Decoder(_Custom)
_raw_tags: Final = msgspec.json.Decoder(_Tags)
_encode: Final = msgspec.json.Encoder().encode

_NOTHING: Final = (b"null", b'""')
_NO_TAG: Final = tuple(map(Raw, _NOTHING))
_BLANK_CUSTOM: Final = (*_NOTHING, b"[]")
_TEXTS: Final = ("first_name", "last_name", "phone", "status")
_SCALARS: Final = ("email", "first_name", "last_name", "phone", "status", "list_associations")


def decode_contact(body: bytes) -> Contact:
    """Decode a contact, with `custom` as an object whichever way none is spelled (an empty list included).

    Raises:
        msgspec.DecodeError: it is not JSON, or not a contact (a `msgspec.ValidationError`). A `custom` of another shape
            is such an error, since laying our fields over it would lose what it holds.
        Contradiction: it reports an error.
    """
    refuse_failure(body)
    try:
        body.decode()  # what is kept as it came is not looked at otherwise
        contact = _contact.decode(body)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("JSON is not UTF-8") from None
    except (ValueError, RecursionError):  # perhaps no more than a number as text, or half a surrogate pair
        contact = None
    if contact is None:
        return _careful_contact(body.decode())
    custom = Received(contact.custom or ())
    custom.body = body
    force_setattr(contact, "custom", custom)
    if contact.tags and b"\\" in body:  # an escape is kept
        force_setattr(
            contact, "tags", [text_of(raw) for raw in _raw_tags.decode(body).tags or () if raw not in _NO_TAG]
        )
    return contact


def as_received(custom: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a contact's `custom` as they stood in the answer, for `encodable`."""
    if not isinstance(custom, Received):
        return custom
    try:
        return _raw_custom.decode(custom.body).custom or {}
    except RecursionError:  # the stack is higher by now than it was when the contact was decoded
        raw = bytes(members(custom.body.decode()).get("custom", b"null"))
        return {} if raw in _BLANK_CUSTOM else _of("custom", members, raw)


def decode_list(body: bytes) -> str:
    """Return the name of a list, empty for one without, from what `GET` of it answers: an object that reports no error.

    Raises `ValueError`.
    """
    answer = decode_json(body)
    if not isinstance(answer, dict) or not answer:
        raise msgspec.ValidationError("Expected `object`")
    refuse_failure(body)
    name = answer.get("name")
    return name if isinstance(name, str) else ""


def encodable(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a write with every foreign part as it came, for msgspec to encode."""
    tags, custom = body.get("tags"), body.get("custom")
    if tags and Verbatim in map(type, tags):
        body = body | {"tags": [Raw(tag.raw) if type(tag) is Verbatim else tag for tag in tags]}
    if custom and Verbatim in map(type, custom):
        pairs = (
            (key.raw if isinstance(key, Verbatim) else _encode(key)) + b":" + _encode(value)
            for key, value in custom.items()
        )
        body = body | {"custom": Raw(b"{" + b",".join(pairs) + b"}")}
    return body


def _careful_contact(text: str) -> Contact:
    answer = members(text)
    tags, custom = bytes(answer.get("tags", b"null")), bytes(answer.get("custom", b"null"))
    scalars = {key: decode_tolerantly(bytes(answer[key])) for key in _SCALARS if key in answer}
    contact = convert(without_halves(scalars), Contact)
    return replace(
        contact,
        tags=None if tags in _NOTHING else [text_of(it) for it in _of("tags", elements, tags) if it not in _NO_TAG],
        custom={} if custom in _BLANK_CUSTOM else _of("custom", members, custom),
    )


def _of(name: str, parts: Callable[[str], T], raw: bytes) -> T:
    try:
        return parts(raw.decode())
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{error} - at `$.{name}`") from None
