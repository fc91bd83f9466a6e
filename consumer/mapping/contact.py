"""The plan: what to write so that a contact shows the user's state.

The rules are those of `reference/mailmojo.md`, "Rules the client keeps".
"""

from typing import Any, Literal

from msgspec import Struct

from consumer.mapping import person
from consumer.mapping.fields import ACCOUNT_FIELDS, USER_ID, FieldValue, field_values
from consumer.mapping.state import Rules, UserState
from consumer.mapping.subscriptions import survey
from consumer.mapping.tags import derive_tags, gifted, is_ours, merge_tags
from schemas.mailmojo import Contact

_SCALARS = ("first_name", "last_name", "phone")


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
    if body["email"] != person.normalised(echo.email):
        differing.append("email")
    differing += [name for name in _SCALARS if name in body and body[name] != getattr(echo, name)]
    if "tags" in body and set(body["tags"]) != set(echo.tags or ()):
        differing.append("tags")
    shown = echo.custom or {}
    differing += [name for name, value in body.get("custom", {}).items() if not _same(value, shown.get(name))]
    return tuple(differing)


def _write(
    action: Literal["patch", "create", "subscribe"], wanted: Wanted, there: Contact, tags: list[str], rules: Rules
) -> Plan:
    custom = there.custom or {}
    scalars = {name: getattr(wanted, name) for name in _SCALARS if getattr(wanted, name) and not getattr(there, name)}
    fields = [name for name, value in wanted.custom.items() if not _same(value, custom.get(name))]
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
        body["custom"] = {**custom, **ours}
    if joins:
        body["force_subscribe"] = False
    owner = custom.get(USER_ID)
    return Plan(
        action=action,
        body=body,
        fields_changed=(*scalars, *fields),
        tags_added=tuple(sorted(after - before)),
        tags_removed=tuple(sorted(before - after)),
        conflict=not _same(owner, None) and not _same(owner, wanted.custom[USER_ID]),
    )


def _may_join(contact: Contact, list_id: str) -> bool:
    """Tell whether a known contact was never on our list and nothing speaks against adding it.

    Assumptions: a is active and u, b and d are gone, so any other status is taken for gone as well. A contact
    without any association counts as never on the list if its own status is a, since an empty list may come as none at
    all; with no status either, nothing says that it did not leave, and it stays off the list. An empty list says so.
    Where associations are not told, a contact with a Sesamy User ID was synced before: adding it again at every sync
    would never come to rest.
    """
    if contact.list_associations is None and not _same((contact.custom or {}).get(USER_ID), None):
        return False
    ours = [it for it in contact.list_associations or () if str(it.list_id).strip() == list_id.strip()]
    if ours or (contact.status and contact.status.strip().lower() != "a"):
        return False
    return bool(contact.status) or contact.list_associations is not None


def _same(one: Any, other: Any) -> bool:
    """Compare two values of a field: every "no value" is the same, true is not 1, and 3 is 3.0."""
    if one == other and type(one) is type(other):
        return True
    if one in (None, "") or other in (None, ""):
        return one in (None, "") and other in (None, "")
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
