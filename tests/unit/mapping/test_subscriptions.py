from typing import Any

import pytest

from consumer.mapping.instants import UnreadableState
from consumer.mapping.subscriptions import is_active, is_single_purchase, is_subscription, survey
from schemas.sesamy import Contract


def contract(**changes: Any) -> Contract:
    values: dict[str, Any] = {"id": "c", "is_active": True, "contract_duration": "RENEWABLE"}
    return Contract(**values | changes)


@pytest.mark.parametrize(
    ("values", "subscription", "single"),
    [
        ({"contract_duration": "RENEWABLE"}, True, False),
        ({"contract_duration": "RECURRING"}, True, False),
        ({"contract_duration": "A_NEW_KIND"}, True, False),
        ({"contract_duration": "PERPETUAL"}, False, True),
        ({"contract_duration": "perpetual", "next_bill_at": "2025-01-01"}, False, True),
        ({"contract_duration": None, "recurring_interval": "P1M"}, True, False),
        ({"contract_duration": None, "next_bill_at": "2025-01-01"}, True, False),
        ({"contract_duration": None, "status": "CLOSED"}, False, True),
        ({"contract_duration": None, "status": "CANCELED"}, False, False),
        ({"contract_duration": None}, False, False),
    ],
)
def test_a_subscription_is_what_is_not_perpetual(values: dict[str, Any], subscription: bool, single: bool) -> None:
    assert is_subscription(contract(**values)) is subscription
    assert is_single_purchase(contract(**values)) is single


@pytest.mark.parametrize(
    ("said", "status", "active"),
    [
        (True, "CANCELED", True),
        (False, "ACTIVE", False),
        (None, "ACTIVE", True),
        (None, "Overdue", True),
        (None, "EXPIRED", False),
        (None, "A_NEW_STATUS", False),
        (None, None, False),
    ],
)
def test_is_active_decides_and_the_status_only_without_it(said: bool | None, status: str | None, active: bool) -> None:
    assert is_active(contract(is_active=said, status=status)) is active


def test_ended_ones_are_counted_by_status_in_any_spelling_and_perpetual_ones_never() -> None:
    spellings = ["CANCELED", "CANCELLED", "canceled", "Expired", "EXPIRED", "CLOSED", None]
    contracts = [contract(is_active=False, status=status) for status in spellings]
    contracts += [contract(contract_duration="PERPETUAL", status="CANCELED"), contract(contract_duration="PERPETUAL")]
    counted = survey(contracts)
    assert (counted.canceled, counted.expired, counted.active, counted.primary) == (3, 2, (), None)


PRECEDENCE = [
    contract(id="renewable-late", expires_at="2026-02-01"),
    contract(id="renewable-early-new", expires_at="2026-01-01T00:00:00Z", created_at="2025-02-01"),
    contract(id="renewable-early-old", expires_at="2026-01-01", created_at="2025-01-01"),
    contract(id="renewable-early-x", expires_at="2026-01-01"),
    contract(id="renewable-early-y", expires_at="2026-01-01"),
    contract(id="renewable-open"),
    contract(id="recurring", contract_duration="RECURRING", expires_at="2030-01-01"),
    contract(id="unknown", contract_duration=None, recurring_interval="P1M", expires_at="2040-01-01"),
]


def test_the_primary_contract_is_chosen_in_the_documented_order() -> None:
    waiting = list(reversed(PRECEDENCE))
    chosen = []
    while waiting:
        primary = survey([contract(id="0", is_active=False, expires_at="2050-01-01"), *waiting]).primary
        assert primary is not None
        chosen.append(primary.id)
        waiting.remove(primary)
    assert chosen == [each.id for each in PRECEDENCE]


def test_a_time_is_only_read_where_it_decides() -> None:
    assert survey([contract(is_active=False, expires_at="soon")]).primary is None
    with pytest.raises(UnreadableState, match=r"contract\.expiresAt"):
        survey([contract(expires_at="soon")])
