"""Mailmojo's REST API: the contact that a sync reads and the bodies it writes (`reference/mailmojo.md`)."""

from typing import Any

from msgspec import Struct


class ListAssociation(Struct, frozen=True, kw_only=True):
    """A contact's place on one list. Status: a = active, u = unsubscribed, b = bounced, d = deleted (assumption)."""

    list_id: int | str
    status: str | None = None


class Contact(Struct, frozen=True, kw_only=True):
    """A contact as Mailmojo answers it. `null`, `""` and a missing key all mean "no value"."""

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    tags: list[str] | None = None
    custom: Any = None
    status: str | None = None
    list_associations: list[ListAssociation] | None = None


class AccountField(Struct, frozen=True, kw_only=True):
    """An account (custom) field: what `GET` of the fields path lists and `POST` creates (assumption).

    `type` is one of `text`, `boolean`, `number` and `date`.
    """

    name: str
    type: str | None = None
