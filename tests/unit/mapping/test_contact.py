from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from consumer.mapping.contact import Wanted, clear, derive, echo_differences, plan
from consumer.mapping.fields import ACCOUNT_FIELDS
from consumer.mapping.instants import UnreadableState
from consumer.mapping.state import Rules, UserState
from schemas.mailmojo import Contact, ListAssociation
from schemas.sesamy import Contract, Profile, Transaction

RULES = Rules(time_zone=ZoneInfo("UTC"), list_id="12")
FIELDS: dict[str, Any] = {field.name: None for field in ACCOUNT_FIELDS} | {
    "Sesamy User ID": "email|1",
    "Has Active Subscription": True,
    "Active Subscriptions": 1,
}
WANTED = Wanted(
    email="kari@x.no",
    first_name="Kari",
    last_name="Nordmann",
    phone="+47 1",
    custom=FIELDS,
    tags=frozenset({"sesamy_b", "sesamy_a"}),
    gifted=False,
)
ON_LIST = [ListAssociation(list_id=12, status="a")]
CURRENT = Contact(
    email="kari@x.no",
    first_name="Kari",
    last_name="Nordmann",
    phone="+47 1",
    tags=["vip", "sesamy_a", "sesamy_b"],
    custom={"Shoe size": 41} | FIELDS,
    status="a",
    list_associations=ON_LIST,
)


def test_a_contact_is_derived_from_the_whole_state() -> None:
    wanted = derive(
        UserState(
            user_id="email|1",
            profile=Profile(
                email=" Kari@X.no ", first_name="Kari", family_name="Nordmann", work_phone="2", tags=["VIP"]
            ),
            contracts=(
                Contract(id="1", is_active=True, contract_duration="RECURRING", payer_user_id="email|2"),
                Contract(id="2", status="CLOSED", contract_duration="PERPETUAL"),
            ),
            transactions=(Transaction(id="1", created_at="2025-01-31T23:30:00Z"),),
        ),
        replace(RULES, time_zone=ZoneInfo("Europe/Oslo")),
    )
    assert (wanted.email, wanted.first_name, wanted.last_name, wanted.phone) == ("kari@x.no", "Kari", "Nordmann", "2")
    assert wanted.tags == {"sesamy_active_subscriber", "sesamy_made_single_purchase", "sesamy_tag_vip"}
    assert wanted.gifted is True
    assert wanted.custom["Last Payment Date"] == "2025-02-01"
    assert set(wanted.custom) == set(FIELDS)


def test_unreadable_state_and_a_missing_address_are_errors() -> None:
    with pytest.raises(UnreadableState):
        derive(
            UserState(
                user_id="u", profile=Profile(email="a@x.no"), transactions=(Transaction(id="1", created_at="soon"),)
            ),
            RULES,
        )
    with pytest.raises(ValueError, match="without an e-mail address"):
        derive(UserState(user_id="u", profile=Profile(email=" ")), RULES)


def test_a_contact_that_shows_everything_is_not_written() -> None:
    assert plan(WANTED, CURRENT, RULES).action == "none"
    assert plan(WANTED, CURRENT, RULES).body == {}


@pytest.mark.parametrize(
    "contact",
    [
        replace(CURRENT, tags=["sesamy_b", "vip", "sesamy_a", "sesamy_a", "vip"]),
        replace(CURRENT, custom={name: value for name, value in FIELDS.items() if value is not None}),
        replace(CURRENT, custom=FIELDS | {"Issues Remaining": "", "Will Cancel At": ""}),
        replace(CURRENT, custom=FIELDS | {"Active Subscriptions": 1.0}),
        replace(CURRENT, email="Kari@X.no"),
        replace(CURRENT, first_name="Somebody", last_name="Else", phone="9"),
    ],
    ids=["tags in another order", "absent", "empty", "float", "case of the address", "filled otherwise"],
)
def test_another_spelling_of_the_same_is_not_written(contact: Contact) -> None:
    assert plan(WANTED, contact, RULES).action == "none"


def test_an_unknown_contact_is_created_whole_and_never_by_force() -> None:
    planned = plan(WANTED, None, RULES)
    assert planned.action == "create"
    assert planned.body == {
        "email": "kari@x.no",
        "first_name": "Kari",
        "last_name": "Nordmann",
        "phone": "+47 1",
        "tags": ["sesamy_a", "sesamy_b"],
        "custom": FIELDS,
        "force_subscribe": False,
    }
    assert planned.fields_changed == (
        "first_name",
        "last_name",
        "phone",
        "Sesamy User ID",
        "Has Active Subscription",
        "Active Subscriptions",
    )
    assert (planned.tags_added, planned.tags_removed, planned.conflict) == (("sesamy_a", "sesamy_b"), (), False)


def test_a_patch_has_the_whole_tag_list_and_the_whole_custom_object() -> None:
    theirs = {"Shoe size": 41, "Notes": None, "sesamy user id": "x"}
    contact = replace(
        CURRENT,
        first_name="",
        phone=None,
        last_name="Hansen",
        tags=["z", "sesamy_old", "a"],
        custom=theirs | {"Sesamy User ID": "email|1", "Will Cancel At": "2025-01-01", "Has Active Subscription": 0},
    )
    planned = plan(WANTED, contact, RULES)
    assert planned.action == "patch"
    assert planned.body == {
        "email": "kari@x.no",
        "first_name": "Kari",
        "phone": "+47 1",
        "tags": ["z", "a", "sesamy_a", "sesamy_b"],
        "custom": theirs | FIELDS,
    }
    assert planned.fields_changed == (
        "first_name",
        "phone",
        "Has Active Subscription",
        "Active Subscriptions",
        "Will Cancel At",
    )
    assert (planned.tags_added, planned.tags_removed) == (("sesamy_a", "sesamy_b"), ("sesamy_old",))


def test_a_patch_says_only_what_changes_and_always_the_address() -> None:
    assert plan(WANTED, replace(CURRENT, phone=None), RULES).body == {"email": "kari@x.no", "phone": "+47 1"}
    assert set(plan(WANTED, replace(CURRENT, tags=None), RULES).body) == {"email", "tags"}
    assert set(plan(WANTED, replace(CURRENT, custom=None), RULES).body) == {"email", "custom"}


def test_the_last_tag_of_ours_goes_with_an_empty_list() -> None:
    planned = plan(replace(WANTED, tags=frozenset()), replace(CURRENT, tags=["sesamy_a"]), RULES)
    assert planned.body == {"email": "kari@x.no", "tags": []}


@pytest.mark.parametrize("clear_value", [None, ""])
def test_a_field_is_cleared_with_the_clear_value(clear_value: Any) -> None:
    contact = replace(CURRENT, custom=FIELDS | {"Issues Remaining": 3})
    planned = plan(WANTED, contact, replace(RULES, clear_value=clear_value))
    assert planned.body["custom"]["Issues Remaining"] == clear_value
    assert planned.fields_changed == ("Issues Remaining",)


@pytest.mark.parametrize(("owner", "conflict"), [("email|2", True), ("email|1", False), ("", False), (None, False)])
def test_another_users_contact_is_a_conflict_and_still_written(owner: str | None, conflict: bool) -> None:
    contact = replace(CURRENT, phone=None, custom=FIELDS | {"Sesamy User ID": owner})
    planned = plan(WANTED, contact, RULES)
    assert (planned.action, planned.conflict) == ("patch", conflict)


EMPTY: tuple[list[ListAssociation] | None, ...] = ([], None)
ON_OTHERS = [ListAssociation(list_id=7, status="u"), ListAssociation(list_id="120", status="a")]


@pytest.mark.parametrize(
    ("status", "associations", "action"),
    [
        ("a", [], "subscribe"),
        ("a", None, "none"),
        ("a", ON_OTHERS, "subscribe"),
        (None, [], "subscribe"),
        (None, None, "none"),
        ("a", ON_LIST, "none"),
        ("a", [ListAssociation(list_id="12", status="a")], "none"),
        ("a", [ListAssociation(list_id=12)], "none"),
        *(("a", [ListAssociation(list_id=12, status=gone)], "none") for gone in ("u", "b", "d", "x")),
        *((gone, nothing, "none") for gone in ("u", "b", "d", "U", "unsubscribed") for nothing in EMPTY),
        *((gone, ON_OTHERS, "none") for gone in ("u", "b", "d")),
    ],
)
def test_only_who_was_never_on_the_list_and_did_not_leave_is_subscribed(
    status: str | None, associations: list[ListAssociation] | None, action: str
) -> None:
    contact = replace(CURRENT, status=status, list_associations=associations)
    assert plan(WANTED, contact, RULES).action == action
    changed = plan(WANTED, replace(contact, phone=None), RULES)
    assert changed.action == ("subscribe" if action == "subscribe" else "patch")
    assert ("force_subscribe" in changed.body) is (action == "subscribe")


def test_where_mailmojo_tells_no_associations_a_contact_is_added_once() -> None:
    contact = replace(CURRENT, status="a", list_associations=None, custom={"Shoe size": 41})
    assert plan(WANTED, contact, RULES).action == "subscribe"
    assert plan(WANTED, replace(contact, custom={"Shoe size": 41} | FIELDS), RULES).action == "none"


def test_subscribing_a_known_contact_keeps_what_it_has() -> None:
    contact = replace(CURRENT, last_name="Hansen", phone=None, list_associations=[])
    planned = plan(WANTED, contact, RULES)
    assert planned.body == {
        "email": "kari@x.no",
        "phone": "+47 1",
        "custom": {"Shoe size": 41} | FIELDS,
        "tags": ["vip", "sesamy_a", "sesamy_b"],
        "force_subscribe": False,
    }
    assert planned.fields_changed == ("phone",)


def test_clearing_takes_everything_of_ours_and_nothing_else() -> None:
    contact = replace(CURRENT, tags=["vip", "sesamy_a", "sesamy_made_single_purchase"], list_associations=[])
    planned = clear(contact, RULES)
    assert planned.action == "patch"
    assert planned.body["tags"] == ["vip"]
    assert planned.body["custom"] == {"Shoe size": 41} | dict.fromkeys(FIELDS)
    assert set(planned.body) == {"email", "tags", "custom"}
    assert clear(replace(contact, tags=["vip"], custom={"Shoe size": 41}), RULES).action == "none"


def test_an_echo_that_shows_what_was_sent_has_no_differences() -> None:
    body = plan(WANTED, None, RULES).body
    echo = replace(CURRENT, email="Kari@x.no", tags=["sesamy_b", "sesamy_a"], custom={"Has Active Subscription": True})
    echo = replace(echo, custom=FIELDS | {"Issues Remaining": "", "Foreign": 1})
    assert echo_differences(body, echo) == ()


def test_the_differences_of_an_echo_are_named_without_values() -> None:
    body = plan(WANTED, replace(CURRENT, first_name=None, phone=None, tags=[], custom={"Shoe size": 41}), RULES).body
    echo = Contact(email="ola@x.no", phone="9", tags=["sesamy_a"], custom=FIELDS | {"Active Subscriptions": 2})
    assert echo_differences(body, echo) == ("email", "first_name", "phone", "tags", "Shoe size", "Active Subscriptions")
    assert echo_differences({"email": "kari@x.no"}, Contact(email="kari@x.no")) == ()
