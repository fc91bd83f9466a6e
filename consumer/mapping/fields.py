"""The 13 account fields: their names and types (the seed's table), and a user's values for them.

The rules are those of `docs/reference/sesamy.md`, "The 13 account fields". A value of None means "clear this field".
"""

from collections.abc import Iterable
from typing import Final
from zoneinfo import ZoneInfo

from consumer.mapping.entitlements import is_bought_article
from consumer.mapping.instants import day, instant
from consumer.mapping.state import UserState
from consumer.mapping.subscriptions import Subscriptions
from schemas.mailmojo import AccountField

FieldValue = str | bool | int | float | None

USER_ID: Final = "Sesamy User ID"

ACCOUNT_FIELDS: Final = (
    AccountField(name=USER_ID, type="text"),
    AccountField(name="Has Active Subscription", type="boolean"),
    AccountField(name="Articles Purchased", type="number"),
    AccountField(name="Active Subscriptions", type="number"),
    AccountField(name="Canceled Subscriptions", type="number"),
    AccountField(name="Expired Subscriptions", type="number"),
    AccountField(name="Ended Subscriptions Total", type="number"),
    AccountField(name="Issues Remaining", type="number"),
    AccountField(name="Subscription Expires At", type="date"),
    AccountField(name="Contract Duration Type", type="text"),
    AccountField(name="Last Payment Date", type="date"),
    AccountField(name="Next Payment Date", type="date"),
    AccountField(name="Will Cancel At", type="date"),
)
"""Every field that is ours on a contact, and that the account must have."""


def field_values(state: UserState, subscriptions: Subscriptions, zone: ZoneInfo) -> dict[str, FieldValue]:
    """Work out every field of `ACCOUNT_FIELDS`, in its order. Raises `UnreadableState`."""
    active, primary = subscriptions.active, subscriptions.primary
    expires_at = subscriptions.renewable.expires_at if subscriptions.renewable else None
    payments = (payment.created_at for payment in state.transactions if not payment.is_refund)
    issues = [contract.issues_remaining for contract in active if contract.issues_remaining is not None]
    return {
        USER_ID: state.user_id,
        "Has Active Subscription": bool(active),
        "Articles Purchased": sum(map(is_bought_article, state.entitlements)),
        "Active Subscriptions": len(active),
        "Canceled Subscriptions": subscriptions.canceled,
        "Expired Subscriptions": subscriptions.expired,
        "Ended Subscriptions Total": subscriptions.canceled + subscriptions.expired,
        "Issues Remaining": sum(issues) if issues else None,
        "Subscription Expires At": day(expires_at, "contract.expiresAt", zone) if expires_at else None,
        "Contract Duration Type": primary.contract_duration if primary else None,
        "Last Payment Date": _newest_day(payments, "transaction.createdAt", zone),
        "Next Payment Date": _earliest_day((it.next_bill_at for it in active), "contract.nextBillAt", zone),
        "Will Cancel At": _earliest_day((it.will_cancel_at for it in active), "contract.willCancelAt", zone),
    }


def _newest_day(texts: Iterable[str | None], name: str, zone: ZoneInfo) -> str | None:
    newest = max((text for text in texts if text), key=lambda text: instant(text, name), default=None)
    return day(newest, name, zone) if newest else None


def _earliest_day(texts: Iterable[str | None], name: str, zone: ZoneInfo) -> str | None:
    earliest = min((text for text in texts if text), key=lambda text: instant(text, name), default=None)
    return day(earliest, name, zone) if earliest else None
