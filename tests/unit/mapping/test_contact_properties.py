"""Properties of the plan, against a model of Mailmojo under every answer to what is unknown of it."""

import json
import re
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from consumer.mapping.contact import Plan, clear, derive, echo_differences, plan
from consumer.mapping.fields import ACCOUNT_FIELDS
from consumer.mapping.state import Rules, UserState
from schemas.mailmojo import Contact, decode_contact, encodable
from schemas.sesamy import Contract, Entitlement, Origin, Profile, Transaction
from schemas.verbatim import value_of

OURS = frozenset(field.name for field in ACCOUNT_FIELDS)
SINGLE_PURCHASE = "sesamy_made_single_purchase"
LIST_ID = 12


class Mailmojo(Struct, frozen=True, kw_only=True):
    """How a Mailmojo might behave: what PATCH does with `custom`, how it spells "no value" and the others."""

    custom: Literal["replaces", "merges"]
    blank: Literal["null", "empty", "absent"]
    values: Literal["typed", "text", "python", "digits"] = "typed"

    def write(self, stored: dict[str, Any] | None, planned: Plan) -> dict[str, Any]:
        before = stored or {"status": "a", "list_associations": [], "tags": [], "custom": {}}
        after: dict[str, Any] = before | json.loads(msgspec.json.encode(encodable(planned.body)))
        after.pop("force_subscribe", None)
        if self.custom == "merges":
            after["custom"] = before["custom"] | after["custom"]
        if planned.action in {"create", "subscribe"}:
            after["list_associations"] = [*before["list_associations"], {"list_id": LIST_ID, "status": "a"}]
        return after

    def read(self, stored: dict[str, Any]) -> Contact:
        custom = {name: self._value(value) if name in OURS else value for name, value in stored["custom"].items()}
        answer = self._spell(stored) | {"custom": self._spell(custom)}
        return decode_contact(json.dumps(answer).encode())

    def _value(self, value: Any) -> Any:
        if value in (None, "") or self.values == "typed" or not isinstance(value, str | int | float):
            return value
        if isinstance(value, bool):
            return {"text": str(value).lower(), "python": str(value), "digits": int(value)}[self.values]
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return value + {"text": "T00:00:00Z", "python": " 00:00:00", "digits": "T00:00:00.000+01:00"}[self.values]
        return float(value) if self.values == "digits" and not isinstance(value, str) else str(value)

    def _spell(self, values: dict[str, Any]) -> dict[str, Any]:
        blank = [name for name, value in values.items() if value in (None, "")]
        if self.blank == "absent":
            return {name: value for name, value in values.items() if name not in blank}
        return values | dict.fromkeys(blank, None if self.blank == "null" else "")


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


words = st.text(max_size=5)
names = maybe(st.sampled_from(["", "  ", "Kari", "Ola"]))
times = maybe(st.sampled_from(["2025-01-01", "2025-11-10T23:30:00Z", "2026-01-01T00:00:00+02:00"]))
contracts = st.builds(
    Contract,
    id=st.sampled_from(["1", "2"]),
    status=maybe(st.sampled_from(["ACTIVE", "CANCELLED", "EXPIRED", "OVERDUE", "CLOSED", "NEW"])),
    is_active=maybe(st.booleans()),
    contract_duration=maybe(st.sampled_from(["RECURRING", "RENEWABLE", "PERPETUAL"])),
    issues_remaining=maybe(st.integers(0, 5)),
    next_bill_at=times,
    expires_at=times,
    will_cancel_at=times,
    created_at=times,
    payer_user_id=maybe(st.sampled_from(["email|1", "email|2"])),
)
entitlements = st.builds(
    Entitlement,
    id=st.just("1"),
    sku=maybe(words),
    purchase_option=maybe(words),
    title=maybe(words),
    type=maybe(st.sampled_from(["article", "ebook"])),
    origin=maybe(st.builds(Origin, type=maybe(st.sampled_from(["EXTERNAL", "PAYMENTS"])))),
    has_access=maybe(st.booleans()),
)
states = st.builds(
    UserState,
    user_id=st.sampled_from(["email|1", "email|2"]),
    profile=st.builds(
        Profile,
        email=st.just("Kari@x.no"),
        first_name=names,
        last_name=names,
        phone=names,
        tags=maybe(st.lists(words, max_size=2)),
    ),
    contracts=st.lists(contracts, max_size=3).map(tuple),
    entitlements=st.lists(entitlements, max_size=3).map(tuple),
    transactions=st.lists(st.builds(Transaction, id=st.just("1"), created_at=times), max_size=2).map(tuple),
)
statuses = st.sampled_from(["a", "u", "b", "d"])
field_names = st.sampled_from(sorted(OURS)) | words
tag_names = st.sampled_from(
    [SINGLE_PURCHASE, "sesamy_has_gifted_subscription", "sesamy_active_subscriber", "sesamy_old", "Sesamy_x", "vip"]
)
stored_contacts = st.fixed_dictionaries(
    {
        "email": st.just("kari@x.no"),
        "first_name": maybe(st.sampled_from(["", "Siri"])),
        "last_name": maybe(st.sampled_from(["", "Dahl"])),
        "phone": maybe(st.sampled_from(["", "9"])),
        "tags": st.lists(tag_names | words.filter(bool), max_size=5),
        "custom": st.dictionaries(
            field_names,
            st.sampled_from([None, "", 0, 1, 1.0, True, False, "x", "2025-01-01", {"deep": [None]}]),
            max_size=5,
        ),
        "status": statuses,
        "list_associations": st.lists(
            st.fixed_dictionaries({"list_id": st.sampled_from([LIST_ID, str(LIST_ID), 7]), "status": statuses}),
            max_size=2,
        ),
    }
)
mailmojos = st.builds(
    Mailmojo, custom=st.sampled_from(["replaces", "merges"]), blank=st.sampled_from(["null", "empty", "absent"])
)
spellings = st.builds(
    Mailmojo,
    custom=st.sampled_from(["replaces", "merges"]),
    blank=st.sampled_from(["null", "empty", "absent"]),
    values=st.sampled_from(["text", "python", "digits"]),
)
rules = st.builds(
    Rules,
    time_zone=st.sampled_from([ZoneInfo("UTC"), ZoneInfo("Europe/Oslo")]),
    list_id=st.just(str(LIST_ID)),
    clear_value=st.sampled_from([None, ""]),
)


@given(state=states, stored=maybe(stored_contacts), mailmojo=mailmojos, rules=rules)
def test_planning_again_after_a_write_yields_nothing(
    state: UserState, stored: dict[str, Any] | None, mailmojo: Mailmojo, rules: Rules
) -> None:
    wanted = derive(state, rules)
    planned = plan(wanted, mailmojo.read(stored) if stored else None, rules)
    if planned.action == "none":
        assert stored is not None
        return
    after = mailmojo.read(mailmojo.write(stored, planned))
    assert echo_differences(planned.body, after) == ()
    assert plan(wanted, after, rules).action == "none"
    for name, value in wanted.custom.items():
        shown = value_of((after.custom or {}).get(name))
        assert shown in (None, "") if value is None else (shown == value and type(shown) is type(value))


@given(state=states, stored=maybe(stored_contacts), mailmojo=spellings, rules=rules)
def test_a12_however_values_are_spelled_a_second_sync_writes_nothing(
    state: UserState, stored: dict[str, Any] | None, mailmojo: Mailmojo, rules: Rules
) -> None:
    wanted = derive(state, rules)
    planned = plan(wanted, mailmojo.read(stored) if stored else None, rules)
    if planned.action == "none":
        assert stored is not None
        return
    after = mailmojo.read(mailmojo.write(stored, planned))
    assert echo_differences(planned.body, after) == ()
    assert plan(wanted, after, rules).action == "none"


def foreign_tags(contact: Contact) -> list[str]:
    return [tag for tag in contact.tags or () if not tag.startswith("sesamy_")]


def foreign_fields(contact: Contact) -> dict[str, Any]:
    return {name: value_of(value) for name, value in (contact.custom or {}).items() if name not in OURS}


@given(state=states, stored=stored_contacts, mailmojo=mailmojos, rules=rules)
def test_what_is_not_ours_survives_every_write(
    state: UserState, stored: dict[str, Any], mailmojo: Mailmojo, rules: Rules
) -> None:
    before = mailmojo.read(stored)
    planned = plan(derive(state, rules), before, rules)
    after = mailmojo.read(mailmojo.write(stored, planned))

    assert foreign_tags(after) == foreign_tags(before)
    assert foreign_fields(after) == foreign_fields(before)
    assert (SINGLE_PURCHASE in (after.tags or ())) >= (SINGLE_PURCHASE in (before.tags or ()))
    for name in ("first_name", "last_name", "phone"):
        if getattr(before, name):
            assert name not in planned.body
    assert "name" not in planned.body


@given(state=states, stored=stored_contacts, mailmojo=mailmojos, rules=rules)
def test_nobody_who_left_is_ever_subscribed(
    state: UserState, stored: dict[str, Any], mailmojo: Mailmojo, rules: Rules
) -> None:
    ours = [it["status"] for it in stored["list_associations"] if str(it["list_id"]) == str(LIST_ID)]
    planned = plan(derive(state, rules), mailmojo.read(stored), rules)
    if {stored["status"], *ours} & {"u", "b", "d"}:
        assert planned.action in {"none", "patch"}
    elif not ours:
        assert planned.action == "subscribe"
    assert (planned.body.get("force_subscribe") is False) is (planned.action == "subscribe")


@given(stored=stored_contacts, mailmojo=mailmojos, rules=rules)
def test_clearing_takes_all_of_ours_and_nothing_else_and_again_nothing(
    stored: dict[str, Any], mailmojo: Mailmojo, rules: Rules
) -> None:
    before = mailmojo.read(stored)
    planned = clear(before, rules)
    after = mailmojo.read(mailmojo.write(stored, planned))
    assert planned.action in {"none", "patch"}
    assert set(planned.body) <= {"email", "tags", "custom"}
    assert foreign_tags(after) == (after.tags or []) == foreign_tags(before)
    assert foreign_fields(after) == foreign_fields(before)
    assert [
        value for name, value in (after.custom or {}).items() if name in OURS and value_of(value) not in (None, "")
    ] == []
    assert set((planned.body.get("custom") or {}).keys()) <= (before.custom or {}).keys()
    assert planned.action == "none" or echo_differences(planned.body, after) == ()
    assert clear(after, rules).action == "none"
