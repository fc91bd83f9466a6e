from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consumer.mapping.fields import ACCOUNT_FIELDS, field_values
from consumer.mapping.instants import UnreadableState
from consumer.mapping.state import UserState
from consumer.mapping.subscriptions import survey
from schemas.sesamy import Contract, Entitlement, Origin, Profile, Transaction

NOTHING = {
    "Sesamy User ID": "email|1",
    "Has Active Subscription": False,
    "Articles Purchased": 0,
    "Active Subscriptions": 0,
    "Canceled Subscriptions": 0,
    "Expired Subscriptions": 0,
    "Ended Subscriptions Total": 0,
    "Issues Remaining": None,
    "Subscription Expires At": None,
    "Contract Duration Type": None,
    "Last Payment Date": None,
    "Next Payment Date": None,
    "Will Cancel At": None,
}


def contract(**changes: Any) -> Contract:
    values: dict[str, Any] = {"id": "c", "is_active": True, "contract_duration": "RENEWABLE"}
    return Contract(**values | changes)


def values(zone: str = "UTC", **state: Any) -> dict[str, Any]:
    user = UserState(user_id="email|1", profile=Profile(user_id="another-spelling"), **state)
    return field_values(user, survey(user.contracts), ZoneInfo(zone))


def test_the_thirteen_fields_are_those_of_the_table() -> None:
    assert [(field.name, field.type) for field in ACCOUNT_FIELDS] == [
        ("Sesamy User ID", "text"),
        ("Has Active Subscription", "boolean"),
        ("Articles Purchased", "number"),
        ("Active Subscriptions", "number"),
        ("Canceled Subscriptions", "number"),
        ("Expired Subscriptions", "number"),
        ("Ended Subscriptions Total", "number"),
        ("Issues Remaining", "number"),
        ("Subscription Expires At", "date"),
        ("Contract Duration Type", "text"),
        ("Last Payment Date", "date"),
        ("Next Payment Date", "date"),
        ("Will Cancel At", "date"),
    ]


def test_a_user_without_anything_has_every_field_counts_at_zero_and_the_rest_cleared() -> None:
    derived = values()
    assert derived == NOTHING
    assert list(derived) == [field.name for field in ACCOUNT_FIELDS]
    assert derived["Has Active Subscription"] is False


def test_a_user_with_a_bit_of_everything() -> None:
    derived = values(
        contracts=(
            contract(
                id="1",
                issues_remaining=3,
                expires_at="2026-05-01T10:00:00Z",
                next_bill_at="2026-02-02T00:00:00Z",
                will_cancel_at="2026-04-01",
            ),
            contract(
                id="2",
                contract_duration="RECURRING",
                issues_remaining=0,
                expires_at="2030-01-01",
                next_bill_at="2026-02-01T23:00:00Z",
                will_cancel_at="2026-03-01",
            ),
            contract(
                id="3", is_active=False, status="CANCELLED", next_bill_at="2020-01-01", will_cancel_at="2020-01-01"
            ),
            contract(id="4", is_active=False, status="EXPIRED", issues_remaining=50),
            contract(id="5", is_active=False, status="EXPIRED"),
            contract(
                id="6", contract_duration="PERPETUAL", status="CLOSED", issues_remaining=7, next_bill_at="2020-01-01"
            ),
        ),
        entitlements=(
            Entitlement(id="1", type="article", has_access=True),
            Entitlement(id="2", type="ARTICLE", has_access=False, origin=Origin(type="PAYMENTS")),
            Entitlement(id="3", type="article", origin=Origin(type="EXTERNAL")),
            Entitlement(id="4", type="ebook"),
        ),
        transactions=(
            Transaction(id="1", created_at="2025-10-01T00:00:00Z"),
            Transaction(id="2", created_at="2025-11-01T00:00:00Z"),
            Transaction(id="3", created_at="2025-12-01T00:00:00Z", is_refund=True),
            Transaction(id="4"),
        ),
    )
    assert derived == {
        "Sesamy User ID": "email|1",
        "Has Active Subscription": True,
        "Articles Purchased": 2,
        "Active Subscriptions": 2,
        "Canceled Subscriptions": 1,
        "Expired Subscriptions": 2,
        "Ended Subscriptions Total": 3,
        "Issues Remaining": 3,
        "Subscription Expires At": "2026-05-01",
        "Contract Duration Type": "RENEWABLE",
        "Last Payment Date": "2025-11-01",
        "Next Payment Date": "2026-02-01",
        "Will Cancel At": "2026-03-01",
    }


def test_no_issues_left_is_a_number_and_not_a_cleared_field() -> None:
    assert values(contracts=(contract(issues_remaining=0),))["Issues Remaining"] == 0


def test_instants_are_compared_as_instants_and_shown_in_the_time_zone() -> None:
    early, late = "2026-02-01T01:00:00+09:00", "2026-01-31T23:30:00Z"  # text sorts them the other way round
    contracts = (contract(next_bill_at=early), contract(next_bill_at=late))
    payments = (Transaction(id="1", created_at=early), Transaction(id="2", created_at=late))
    derived = values("Europe/Oslo", contracts=contracts, transactions=payments)
    assert (derived["Next Payment Date"], derived["Last Payment Date"]) == ("2026-01-31", "2026-02-01")
    assert values("Asia/Tokyo", contracts=contracts)["Next Payment Date"] == "2026-02-01"


@pytest.mark.parametrize(
    ("contracts", "shown"),
    [
        ((contract(contract_duration="RECURRING", expires_at="2026-05-01"),), None),
        (
            (
                contract(contract_duration="RECURRING", expires_at="2030-05-01"),
                contract(id="r", contract_duration="RENEWABLE", expires_at="2026-05-01"),
            ),
            "2026-05-01",
        ),
        ((contract(expires_at="2026-05-01"), contract(id="later", expires_at="2026-06-01")), "2026-06-01"),
        ((contract(expires_at="2026-05-01"), contract(id="none")), "2026-05-01"),
        ((contract(expires_at="2026-05-01", is_active=False),), None),
        ((contract(contract_duration=None, expires_at="2026-05-01"),), "2026-05-01"),
        ((contract(contract_duration=None, expires_at="2026-05-01", next_bill_at="2026-05-01"),), None),
        ((contract(contract_duration=None, expires_at="2026-05-01", recurring_interval="P1M"),), None),
        ((contract(contract_duration="PERPETUAL", expires_at="2026-05-01"),), None),
        ((contract(contract_duration="SOMETHING_NEW", expires_at="2026-05-01"),), None),
        (
            (
                contract(contract_duration=None, expires_at="2026-07-01"),
                contract(id="r", contract_duration="renewable", expires_at="2026-05-01"),
            ),
            "2026-05-01",
        ),
    ],
)
def test_a_subscription_expires_when_the_primary_renewable_contract_does(
    contracts: tuple[Contract, ...], shown: str | None
) -> None:
    assert values(contracts=contracts)["Subscription Expires At"] == shown


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ({"contracts": (contract(next_bill_at="soon"),)}, "contract.nextBillAt"),
        ({"contracts": (contract(will_cancel_at="soon"),)}, "contract.willCancelAt"),
        ({"transactions": (Transaction(id="1", created_at="soon"),)}, "transaction.createdAt"),
    ],
)
def test_an_unreadable_time_is_an_error_and_not_a_cleared_field(state: dict[str, Any], name: str) -> None:
    with pytest.raises(UnreadableState, match=name):
        values(**state)
