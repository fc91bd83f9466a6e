"""What Mailmojo takes in a body and what it refuses (`docs/reference/mailmojo.md`)."""

import re
from datetime import date
from typing import Any

from consumer.sandbox.answers import Answers
from consumer.sandbox.contacts import EMPTY, Contact, stored
from consumer.sandbox.endpoint import Call, Refusal, broken_rule

FIELD_TYPES = ("text", "boolean", "number", "date")
_BASE = {"email", "first_name", "last_name", "name", "phone", "tags", "custom"}
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def base_contact(call: Call, current: Contact | None, fields: dict[str, str], answers: Answers) -> dict[str, Any]:
    """Return the body of a PATCH.

    Raises:
        Refusal: it is no BaseContact, or holds a value that Mailmojo does not take.
    """
    return _checked(call, _BASE, current, fields, answers)


def subscriber(call: Call, fields: dict[str, str], answers: Answers) -> dict[str, Any]:
    """Return the body of a POST to a list's subscribers; anything but `force_subscribe: false` is noted as a violation.

    Raises:
        Refusal: it is no Subscriber, or holds a value that Mailmojo does not take.
    """
    body = _checked(call, _BASE | {"force_subscribe"}, None, fields, answers)
    if not isinstance(body.get("force_subscribe", True), bool):
        raise broken_rule("force_subscribe is a boolean")
    if body.get("force_subscribe", True):
        call.violations.append("force_subscribe is always sent as false")
    return body


def field(call: Call) -> tuple[str, str]:
    """Return the name and the type of an account field to create.

    Raises:
        Refusal: the body is not `{"name", "type"}` with a known type.
    """
    body = call.json()
    name, kind = body.get("name"), body.get("type")
    if body.keys() != {"name", "type"} or not isinstance(name, str) or not name.strip() or kind not in FIELD_TYPES:
        raise broken_rule(f"an account field has a name and a type, one of {', '.join(FIELD_TYPES)}")
    return name.strip(), kind


def _checked(
    call: Call, known: set[str], current: Contact | None, fields: dict[str, str], answers: Answers
) -> dict[str, Any]:
    body = call.json()
    if unknown := body.keys() - known:
        raise broken_rule(f"no key of the body is called {', '.join(sorted(unknown))}")
    if not isinstance(body.get("email"), str):
        raise broken_rule("email is always in the body, as text")
    for key in ("first_name", "last_name", "name", "phone"):
        if key in body and not isinstance(body[key], str):
            raise broken_rule(f"{key} is a text")
    tags = body.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise broken_rule("tags is a list of texts")
    _note_tags(call, tags)
    if "name" in body:
        call.violations.append("name overrides first_name and last_name: never send it")
    custom = body.get("custom", {})
    if not isinstance(custom, dict):
        raise broken_rule("custom is an object")
    for key in custom:
        custom[key] = stored(custom[key], fields.get(key), answers)
        _check_value(key, custom[key], current, fields, answers)
    if not _ADDRESS.fullmatch(body["email"].strip()):
        raise Refusal(int(answers.refusal), "email: not a valid address")
    return body


def _note_tags(call: Call, tags: list[str]) -> None:
    ours = [tag for tag in tags if tag.startswith("sesamy_")]
    if any(len(tag) > 99 or tag != tag.lower() for tag in ours):
        call.violations.append("a sesamy_ tag is in lower case and has at most 99 characters")
    if tags != [tag for tag in tags if not tag.startswith("sesamy_")] + sorted(set(ours)):
        call.violations.append("foreign tags come first, then the sesamy_ tags, sorted and once each")


def _check_value(key: str, value: object, current: Contact | None, fields: dict[str, str], answers: Answers) -> None:
    """Refuse what an account field's type does not take; what leaves a value as it is may always be sent back."""
    kind = fields.get(key)
    has = current.custom.get(key) if current else None
    if value == has or (value in EMPTY and has in EMPTY):
        return
    if value in EMPTY:
        right = value is None if answers.clear == "null" else value == ""
        if not right and not (value == "" and kind == "text"):
            raise Refusal(int(answers.refusal), f"custom: {key} cannot be cleared like this")
    elif kind is None:
        if answers.unregistered == "refuse":
            raise Refusal(int(answers.refusal), f"custom: there is no account field {key}")
        if not isinstance(value, str | bool | int | float):
            raise broken_rule("a value of custom is a text, a boolean or a number")
    elif not _fits(kind, value):
        raise broken_rule(f"custom: {key} takes a {kind}", int(answers.refusal))


def _fits(kind: str, value: object) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    return isinstance(value, str) and _DAY.fullmatch(value) is not None and _is_day(value)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
