"""Mailmojo's REST API: the contact that a sync reads and the bodies it writes (`reference/mailmojo.md`)."""

from typing import Any

import msgspec
from msgspec import Struct

from schemas.decoding import convert, decode_json, straight


class ListAssociation(Struct, frozen=True, kw_only=True):
    """A contact's place on one list. Status: a = active, u = unsubscribed, b = bounced, d = deleted (assumption)."""

    list_id: int | str
    status: str | None = None


class Contact(Struct, frozen=True, kw_only=True):
    """A contact as Mailmojo answers it. `null`, `""` and a missing key all mean "no value".

    `custom` is as it came, blank values included: it is written back whole. `decode_contact` makes it an object.
    """

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    tags: list[str] | None = None
    custom: dict[str, Any] | None = None
    status: str | None = None
    list_associations: list[ListAssociation] | None = None


class AccountField(Struct, frozen=True, kw_only=True):
    """An account (custom) field: what `GET` of the fields path lists and `POST` creates (assumption).

    `type` is one of `text`, `boolean`, `number` and `date`.
    """

    name: str
    type: str | None = None


_decoder = msgspec.json.Decoder(Contact)


def decode_contact(body: bytes) -> Contact:
    """Decode a contact, with `custom` as an object whichever way none is spelled (an empty list included).

    Raises `msgspec.DecodeError`, or `msgspec.ValidationError` when it is no contact. A `custom` of another shape is
    such an error, since laying our fields over it would lose what it holds.
    """
    contact = straight(body, _decoder)
    if contact is None:
        return contact_from(decode_json(body))
    return contact if contact.custom is not None else msgspec.structs.replace(contact, custom={})


def contact_from(answer: Any) -> Contact:
    """Turn a contact's decoded JSON, such as one entry of a list, into a `Contact`; see `decode_contact`."""
    if not isinstance(answer, dict):
        raise msgspec.ValidationError("Expected `object`")
    custom = answer.get("custom") or {}
    if not isinstance(custom, dict):
        raise msgspec.ValidationError("Expected `object` - at `$.custom`")
    contact = convert({key: value for key, value in answer.items() if key != "custom"}, Contact)
    return msgspec.structs.replace(contact, custom=custom)
