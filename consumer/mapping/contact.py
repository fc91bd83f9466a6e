"""The plan: what to write so that a contact shows the user's state.

The rules are those of `docs/reference/mailmojo.md`, "Rules the client keeps".
"""

from typing import Any, Literal

from msgspec import Struct

from consumer.mapping import person
from consumer.mapping.equality import is_blank, same, same_foreign
from consumer.mapping.fields import ACCOUNT_FIELDS, USER_ID, FieldValue, field_values
from consumer.mapping.state import Rules, UserState
from consumer.mapping.subscriptions import survey
from consumer.mapping.tags import derive_tags, gifted, is_ours, merge_tags
from schemas.mailmojo import Contact, as_received
from schemas.verbatim import loggable

_SCALARS = ("first_name", "last_name", "phone")
_TYPES = {field.name: field.type for field in ACCOUNT_FIELDS}


class Wanted(Struct, frozen=True, kw_only=True):
    """What the contact of a user should show.

    `custom` has every account field; None clears it. `tags` leaves out the gift's, which `gifted` decides: set, not
    set, or (None) as it is on the contact.
    """

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    custom: dict[str, FieldValue]
    tags: frozenset[str] = frozenset()
    gifted: bool | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """One write, or none.

    `create` and `subscribe` (a known contact that was never on our list) are a POST to the list, after which the
    caller reads and plans again; `patch` is a PATCH. `conflict`: the contact carries another user's id.
    """

    action: Literal["none", "patch", "create", "subscribe"]
    body: dict[str, Any] = {}
    fields_changed: tuple[str, ...] = ()
    tags_added: tuple[str, ...] = ()
    tags_removed: tuple[str, ...] = ()
    conflict: bool = False


def derive(state: UserState, rules: Rules) -> Wanted:
    """Work out the contact of a user with an address.

    Raises:
        UnreadableState: a value that decides a field cannot be read.
        ValueError: the user has no address; see `person.address`.
    """
    email = person.address(state.profile)
    if email is None:
        raise ValueError("a user without an e-mail address has no contact")
    subscriptions = survey(state.contracts)
    return Wanted(
        email=email,
        first_name=person.first_name(state.profile),
        last_name=person.last_name(state.profile),
        phone=person.phone(state.profile),
        custom=field_values(state, subscriptions, rules.time_zone),
        tags=derive_tags(state, subscriptions),
        gifted=gifted(state, subscriptions),
    )


def plan(wanted: Wanted, contact: Contact | None, rules: Rules) -> Plan:
    """Compare what is wanted with what is there (None: Mailmojo does not know the contact)."""
    there = contact or Contact(email=wanted.email)
    tags = merge_tags(there.tags or (), wanted.tags, is_gifted=wanted.gifted)
    if contact is None:
        return _write("create", wanted, there, tags, rules)
    return _write("subscribe" if _may_join(contact, rules.list_id) else "patch", wanted, there, tags, rules)


def clear(contact: Contact, rules: Rules) -> Plan:
    """Take everything that is ours off a contact whose Sesamy user is gone. Never subscribes.

    `made_single_purchase` goes as well: it is permanent for a user, and this contact is none any more. Fields that
    are not on the contact are not named: an account may lack some.
    """
    there = [field.name for field in ACCOUNT_FIELDS if field.name in (contact.custom or {})]
    nothing = Wanted(email=person.normalised(contact.email), custom=dict.fromkeys(there))
    return _write("patch", nothing, contact, [tag for tag in contact.tags or () if not is_ours(tag)], rules)


def echo_differences(body: dict[str, Any], echo: Contact) -> tuple[str, ...]:
    """Name what a write's echo shows otherwise than it was sent; names only, never values."""
    differing: list[str] = []
    if not person.same_address(body["email"], echo.email):
        differing.append("email")
    differing += [name for name in _SCALARS if name in body and body[name] != getattr(echo, name)]
    if "tags" in body and set(body["tags"]) != set(echo.tags or ()):
        differing.append("tags")
    shown = echo.custom or {}
    for name, value in body.get("custom", {}).items():
        there = shown.get(name)
        if value == there and type(value) is type(there):
            continue
        kind = _TYPES.get(name)
        if not (same_foreign(value, there) if kind is None else same(kind, value, there)):
            differing.append(loggable(name))
    return tuple(differing)


def _write(
    action: Literal["patch", "create", "subscribe"], wanted: Wanted, there: Contact, tags: list[str], rules: Rules
) -> Plan:
    custom = there.custom or {}
    scalars = {name: getattr(wanted, name) for name in _SCALARS if getattr(wanted, name) and not getattr(there, name)}
    fields = [
        name
        for name, value in wanted.custom.items()
        if not ((there_ := custom.get(name)) == value and type(there_) is type(value))
        and not same(_TYPES[name], value, there_)
    ]
    before, after = set(there.tags or ()), set(tags)
    joins = action != "patch"
    if not (joins or scalars or fields or before != after):
        return Plan(action="none")

    body: dict[str, Any] = {"email": wanted.email, **scalars}
    # The write replaces the tags, and may replace or merge custom: both go whole, or not at all.
    if before != after or (joins and before):
        body["tags"] = tags
    if fields or joins:
        ours = {name: rules.clear_value if value is None else value for name, value in wanted.custom.items()}
        body["custom"] = {**as_received(custom), **ours}
    if joins:
        body["force_subscribe"] = False
    owner = custom.get(USER_ID)
    return Plan(
        action=action,
        body=body,
        fields_changed=(*scalars, *fields),
        tags_added=tuple(sorted(after - before)),
        tags_removed=tuple(sorted(map(loggable, before - after))),
        conflict=not is_blank(owner) and not same("text", wanted.custom[USER_ID], owner),
    )


def _may_join(contact: Contact, list_id: str) -> bool:
    """Tell whether a known contact was never on our list and nothing speaks against adding it.

    Assumptions: a is active and u, b and d are gone, so any other status is taken for gone as well. A contact
    without any association counts as never on the list if its own status is a, since an empty list may come as none at
    all; with no status either, nothing says that it did not leave, and it stays off the list. An empty list says so.
    Where associations are not told, a contact with a Sesamy User ID was synced before: adding it again at every sync
    would never come to rest.
    """
    if contact.list_associations is None and not is_blank((contact.custom or {}).get(USER_ID)):
        return False
    ours = [it for it in contact.list_associations or () if str(it.list_id).strip() == list_id.strip()]
    if ours or (contact.status and contact.status.strip().lower() != "a"):
        return False
    return bool(contact.status) or contact.list_associations is not None
