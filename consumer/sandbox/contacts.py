"""A Mailmojo contact and what each call makes of it (`docs/reference/mailmojo.md`). Values in, values out; no I/O."""

import re
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from consumer.sandbox.answers import Answers

Status = Literal["a", "u", "b", "d"]
"""Active, unsubscribed, bounced, deleted."""

SESAMY_FIELDS = {
    "Sesamy User ID": "text",
    "Has Active Subscription": "boolean",
    "Articles Purchased": "number",
    "Active Subscriptions": "number",
    "Canceled Subscriptions": "number",
    "Expired Subscriptions": "number",
    "Ended Subscriptions Total": "number",
    "Issues Remaining": "number",
    "Subscription Expires At": "date",
    "Contract Duration Type": "text",
    "Last Payment Date": "date",
    "Next Payment Date": "date",
    "Will Cancel At": "date",
}
"""The names and types that a sync owns (the seed's table); every other key of `custom` is foreign."""

EMPTY = (None, "")
SCALARS = ("first_name", "last_name", "phone")
_BOOLEANS = {"true": True, "false": False, 1: True, 0: False}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_VERSION = re.compile(r"sesamy_tag_v-(\d{6,})")


class Association(Struct, frozen=True):
    """A contact's place on one list."""

    list_id: int
    status: Status = "a"
    added: str = ""
    status_changed: str = ""


class Contact(Struct, frozen=True, kw_only=True):
    """A contact as Mailmojo stores it; `""` and a missing key of `custom` are "no value"."""

    email: str
    first_name: str = ""
    last_name: str = ""
    phone: str = ""
    tags: tuple[str, ...] = ()
    custom: dict[str, Any] = {}
    status: Status = "a"
    added: str = ""
    status_changed: str = ""
    associations: tuple[Association, ...] = ()
    version: int = 1
    """Counts the changes that took effect."""

    def on_list(self, list_id: int) -> Status | None:
        """Return the status on the list, or None when the contact never was on it."""
        return next((place.status for place in self.associations if place.list_id == list_id), None)

    @property
    def user_version(self) -> int | None:
        """The version of the Sesamy user that the contact shows, from its `sesamy_tag_v-…`."""
        return user_version(self.tags)


def fold(address: str) -> str:
    """Return what makes an address unique (assumption: case does not matter)."""
    return address.strip().lower()


def user_version(tags: object) -> int | None:
    """Return the version of the Sesamy user that a list of tags carries."""
    if not isinstance(tags, list | tuple):
        return None
    found = [int(match[1]) for tag in tags if isinstance(tag, str) and (match := _VERSION.fullmatch(tag))]
    return max(found, default=None)


def patched(contact: Contact, body: dict[str, Any], custom: Literal["merge", "replace"]) -> Contact:
    """Return the contact after PATCH: what was sent replaces what was there, tags as a whole."""
    changes: dict[str, Any] = {name: body[name] for name in SCALARS if name in body}
    if "name" in body:
        changes["first_name"], _, changes["last_name"] = body["name"].partition(" ")
    if "tags" in body:
        changes["tags"] = tuple(body["tags"])
    if "custom" in body:
        base = contact.custom if custom == "merge" else {}
        changes["custom"] = {key: value for key, value in {**base, **body["custom"]}.items() if value not in EMPTY}
    return replace(contact, **changes, version=contact.version + 1)


def posted(contact: Contact | None, body: dict[str, Any], answers: Answers, list_id: int, now: str) -> Contact:
    """Return the contact after POST subscribers; who is u, b or d stays so unless `force_subscribe` (default true)."""
    if contact is None:
        fresh = Contact(email=body["email"].strip(), added=now, status_changed=now, version=0)
        return _subscribed(patched(fresh, body, "replace"), list_id, now)
    if answers.existing == "merge":
        after = patched(contact, body, answers.custom)
    elif answers.existing == "replace":
        blank = replace(contact, first_name="", last_name="", phone="", tags=(), custom={})
        after = patched(blank, body, "replace")
    else:
        after = replace(contact, version=contact.version + 1)
    place = contact.on_list(list_id)
    left = contact.status != "a" or place not in {None, "a"}
    if left and not body.get("force_subscribe", True):
        return after
    return after if place == "a" and not left else _subscribed(after, list_id, now)


def unsubscribed(contact: Contact, list_id: int, now: str) -> Contact:
    """Return the contact after DELETE of the subscriber."""
    return replace(_placed(contact, Association(list_id, "u", now, now)), version=contact.version + 1)


def _subscribed(contact: Contact, list_id: int, now: str) -> Contact:
    return replace(_placed(contact, Association(list_id, "a", now, now)), status="a")


def _placed(contact: Contact, place: Association) -> Contact:
    others = tuple(other for other in contact.associations if other.list_id != place.list_id)
    return replace(contact, associations=(*others, place))


def damage(before: Contact, after: Contact) -> tuple[str, ...]:
    """Return what a write did that no sync may do: foreign tags, foreign fields, filled scalars, who had left.

    As `tag:NAME`, `tags:order`, `custom:NAME`, the scalar's name, and `subscribed`.
    """
    found = [f"tag:{tag}" for tag in _foreign_tags(before) if tag not in after.tags]
    if not found and _foreign_tags(before) != _foreign_tags(after):
        found.append("tags:order")
    found += [
        f"custom:{key}"
        for key in before.custom.keys() | after.custom.keys()
        if key not in SESAMY_FIELDS and before.custom.get(key) != after.custom.get(key)
    ]
    found += [key for key in SCALARS if getattr(before, key).strip() and getattr(before, key) != getattr(after, key)]
    came_back = any(place.status != "a" and after.on_list(place.list_id) == "a" for place in before.associations)
    if came_back or (before.status != "a" and after.status == "a"):
        found.append("subscribed")
    return tuple(found)


def _foreign_tags(contact: Contact) -> list[str]:
    return [tag for tag in contact.tags if not tag.startswith("sesamy_")]


def spelled(value: Any, kind: str | None, answers: Answers) -> Any:
    """Return a value of an account field as it comes back."""
    if kind == "boolean" and isinstance(value, bool):
        return {"typed": value, "text": str(value).lower(), "digits": int(value)}[answers.values]
    if kind == "number" and isinstance(value, int | float):
        return {"typed": value, "text": str(value), "digits": float(value)}[answers.values]
    if kind == "date" and answers.values == "digits":
        return f"{value}T00:00:00Z"
    return value


def stored(value: Any, kind: str | None, answers: Answers) -> Any:
    """Return a value as it is stored: whoever spells it in another type takes it back like that."""
    if answers.values == "typed" or value in EMPTY:
        return value
    if kind == "boolean" and value in _BOOLEANS:
        return _BOOLEANS[value]
    if kind == "number" and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return value.removesuffix("T00:00:00Z") if kind == "date" and isinstance(value, str) else value


def base_contact(contact: Contact, answers: Answers, fields: dict[str, str]) -> dict[str, Any]:
    """Return a BaseContact as it stands on the wire."""
    wire: dict[str, Any] = {"email": contact.email.lower() if answers.address == "lower" else contact.email}
    values = {key: getattr(contact, key) or None for key in SCALARS}
    tags = list(contact.tags)
    custom = {key: spelled(value, fields.get(key), answers) for key, value in contact.custom.items()}
    if answers.empty == "absent":
        wire |= {key: value for key, value in values.items() if value}
        return wire | ({"tags": tags} if tags else {}) | ({"custom": custom} if custom else {})
    if answers.empty == "blank":
        wire |= {key: value or "" for key, value in values.items()}
        return wire | {"tags": tags, "custom": dict.fromkeys(fields, "") | custom}
    return wire | values | {"tags": tags or None, "custom": (dict.fromkeys(fields) | custom) or None}


def full_contact(contact: Contact, answers: Answers, fields: dict[str, str]) -> dict[str, Any]:
    """Return a Contact as it stands on the wire."""
    wire = base_contact(contact, answers, fields)
    own, places = contact.status, contact.associations
    if answers.status == "contact" and own != "a":
        places = tuple(replace(place, status="a") for place in places)
    elif answers.status == "association" and any(place.status != "a" for place in places):
        own = "a"
    return wire | {
        "added": contact.added,
        "status": own,
        "status_changed": contact.status_changed,
        "list_associations": [
            {
                "email": wire["email"],
                "list_id": place.list_id,
                "status": place.status,
                "added": place.added,
                "status_changed": place.status_changed,
            }
            for place in places
        ],
    }
