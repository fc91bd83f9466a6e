"""Which contracts count, and as what (`docs/reference/sesamy.md`, "The 13 account fields"; all of it is assumed)."""

from collections.abc import Iterable
from math import inf

from msgspec import Struct

from consumer.mapping.instants import instant
from schemas.sesamy import Contract

_DURATION_RANK = {"RENEWABLE": 0, "RECURRING": 1}


class Subscriptions(Struct, frozen=True, kw_only=True):
    """A user's subscriptions by what became of them.

    `primary` is the active one that the fields speak of, `renewable` the active one that ends unless it is renewed.
    """

    active: tuple[Contract, ...]
    canceled: int
    expired: int
    primary: Contract | None
    renewable: Contract | None


def survey(contracts: Iterable[Contract]) -> Subscriptions:
    """Sort out the subscriptions. Raises `UnreadableState` when the primary one cannot be told."""
    subscriptions: list[Contract] = []
    active: list[Contract] = []
    renewable: list[Contract] = []
    for contract in contracts:
        runs = is_active(contract)
        if is_subscription(contract):
            subscriptions.append(contract)
            if runs:
                active.append(contract)
        if runs and contract.expires_at is not None and is_renewable(contract):
            renewable.append(contract)
    statuses = [status(contract) for contract in subscriptions]
    return Subscriptions(
        active=tuple(active),
        canceled=statuses.count("CANCELED"),
        expired=statuses.count("EXPIRED"),
        primary=min(active, key=_precedence, default=None),
        renewable=min(renewable, key=_precedence, default=None),
    )


def is_subscription(contract: Contract) -> bool:
    """Tell a subscription from a one-time purchase."""
    kind = duration(contract)
    if kind:
        return kind != "PERPETUAL"
    return contract.recurring_interval is not None or contract.next_bill_at is not None


def is_renewable(contract: Contract) -> bool:
    """Tell whether the contract ends at its `expiresAt` unless it is renewed; a recurring one renews by itself.

    One without a duration type is one if it has an `expiresAt` and nothing about it recurs (assumption).
    """
    kind = duration(contract)
    if kind:
        return kind == "RENEWABLE"
    recurs = contract.recurring_interval is not None or contract.next_bill_at is not None
    return contract.expires_at is not None and not recurs


def is_single_purchase(contract: Contract) -> bool:
    """Tell whether the contract is surely a one-time purchase.

    Its tag can never be taken back, so a contract that merely says nothing of a duration is none.
    """
    return duration(contract) == "PERPETUAL" or (not is_subscription(contract) and status(contract) == "CLOSED")


def is_active(contract: Contract) -> bool:
    """Tell whether the contract runs. An overdue one does: it is still in grace."""
    if contract.is_active is not None:
        return contract.is_active
    return status(contract) in {"ACTIVE", "OVERDUE"}


def status(contract: Contract) -> str:
    """Return the status in one spelling, `""` for none."""
    spelled = (contract.status or "").strip().upper()
    return "CANCELED" if spelled == "CANCELLED" else spelled


def duration(contract: Contract) -> str:
    """Return the contract's duration type in one spelling, `""` for none."""
    return (contract.contract_duration or "").strip().upper()


def _precedence(contract: Contract) -> tuple[int, float, float, str]:
    return (
        _DURATION_RANK.get(duration(contract), len(_DURATION_RANK)),
        _latest_first(contract.expires_at, "contract.expiresAt"),
        _latest_first(contract.created_at, "contract.createdAt"),
        str(contract.id),
    )


def _latest_first(text: str | None, name: str) -> float:
    return inf if text is None else -instant(text, name).timestamp()
