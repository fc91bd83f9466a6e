"""What users bought: contracts, entitlements and transactions of every kind, as in `docs/reference/sesamy.md`."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

_TODAY = date(2026, 1, 1)  # a fixed day, so that the same seed makes the same world
_PRODUCTS = (("avisa-pluss", "Avisa Pluss"), ("BLÅ_avis", "Blå avis & Øl"), ("mag-01", "Magasinet"))


def _at(days: int, hour: int = 12) -> str:
    return f"{_TODAY + timedelta(days=days)}T{hour:02d}:30:00.000Z"


def _contract(user_id: str, dice: random.Random, **more: Any) -> dict[str, Any]:
    sku, name = dice.choice(_PRODUCTS)
    begun = -dice.randrange(20, 900)
    return {
        "id": f"contract_{dice.getrandbits(64):016x}",
        "userId": user_id,
        "status": "ACTIVE",
        "isActive": True,
        "contractDuration": "RECURRING",
        "recurringInterval": "MONTHLY",
        "nextBillAt": _at(dice.randrange(1, 31), dice.randrange(24)),
        "createdAt": _at(begun),
        "updatedAt": _at(begun + 1),
        "items": [{"sku": sku, "name": name, "purchaseOptionId": "po_monthly", "purchaseType": "SUBSCRIPTION"}],
    } | more


def _ended(user_id: str, dice: random.Random, status: str) -> dict[str, Any]:
    gone = _at(-dice.randrange(1, 200))
    return _contract(user_id, dice, status=status, isActive=False, nextBillAt=None, expiresAt=gone)


def _entitlement(dice: random.Random, contract: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    sku, name = dice.choice(_PRODUCTS)
    if contract is not None:
        sku, name = contract["items"][0]["sku"], contract["items"][0]["name"]
    origin = {"type": "EXTERNAL"} if contract is None else {"type": "PAYMENTS", "contractId": contract["id"]}
    return {
        "id": f"entitlement_{dice.getrandbits(64):016x}",
        "sku": sku,
        "purchaseOption": "po_monthly",
        "title": name,
        "type": "pass",
        "origin": origin,
        "hasAccess": True,
        "createdAt": _at(-30),
    } | more


def _payments(dice: random.Random, *contracts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"transaction_{dice.getrandbits(64):016x}",
            "userId": contract["userId"],
            "contractId": contract["id"],
            "amount": 9900,
            "isRefund": month == 0 and dice.random() < 0.3,
            "createdAt": _at(-31 * month - dice.randrange(20), 23),
        }
        for contract in contracts
        for month in range(1 + dice.randrange(3))
    ]


def _having(dice: random.Random, *contracts: dict[str, Any], more: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    access = [_entitlement(dice, contract, hasAccess=bool(contract.get("isActive", True))) for contract in contracts]
    return {
        "contracts": list(contracts),
        "entitlements": [*access, *more],
        "transactions": _payments(dice, *contracts),
    }


def nothing(user_id: str, dice: random.Random) -> dict[str, Any]:
    """A user who bought nothing."""
    del user_id, dice
    return {"contracts": [], "entitlements": [], "transactions": []}


def _recurring(user_id: str, dice: random.Random) -> dict[str, Any]:
    return _having(dice, _contract(user_id, dice))


def _renewable(user_id: str, dice: random.Random) -> dict[str, Any]:
    until = _at(dice.randrange(5, 400))
    renewable = _contract(
        user_id, dice, contractDuration="RENEWABLE", expiresAt=until, nextBillAt=None, issuesRemaining=1
    )
    return _having(dice, renewable, more=(_entitlement(dice, renewable, type="physical_issue"),))


def _perpetual(user_id: str, dice: random.Random) -> dict[str, Any]:
    once = {"contractDuration": "PERPETUAL", "recurringInterval": None, "nextBillAt": None, "status": "CLOSED"}
    return _having(dice, _contract(user_id, dice, **once))


def _no_duration(user_id: str, dice: random.Random) -> dict[str, Any]:
    contract = _contract(user_id, dice)
    del contract["contractDuration"]
    return _having(dice, contract)


def _overdue(user_id: str, dice: random.Random) -> dict[str, Any]:
    return _having(dice, _contract(user_id, dice, status="OVERDUE"))


def _will_cancel(user_id: str, dice: random.Random) -> dict[str, Any]:
    return _having(dice, _contract(user_id, dice, willCancelAt=_at(14), cancelRequestedAt=_at(-2), nextBillAt=None))


def _canceled(user_id: str, dice: random.Random) -> dict[str, Any]:
    return _having(dice, _ended(user_id, dice, "CANCELED"))


def _expired(user_id: str, dice: random.Random) -> dict[str, Any]:
    return _having(dice, _ended(user_id, dice, "EXPIRED"))


def _gifted(user_id: str, dice: random.Random) -> dict[str, Any]:
    giver = f"email|{dice.getrandbits(96):024x}"
    mark = {"payerUserId": giver} if dice.random() < 0.5 else {"giftedBy": giver}
    return _having(dice, _contract(user_id, dice, **mark))


def _external(user_id: str, dice: random.Random) -> dict[str, Any]:
    return nothing(user_id, dice) | {"entitlements": [_entitlement(dice), _entitlement(dice, hasAccess=False)]}


def _articles(user_id: str, dice: random.Random) -> dict[str, Any]:
    bought = _perpetual(user_id, dice)
    contract = bought["contracts"][0]
    articles = [_entitlement(dice, contract, type="article", title=f"Sak № {n}", sku=f"art-{n}") for n in range(3)]
    return bought | {"entitlements": [*articles, _entitlement(dice, type="article", title="Gratis")]}


def _mixed(user_id: str, dice: random.Random) -> dict[str, Any]:
    """Several at once, spelled in the other ways that the reference allows for."""
    silent = _contract(user_id, dice, status="active", issuesRemaining=1)
    del silent["isActive"]
    return _having(dice, silent, _ended(user_id, dice, "CANCELLED"), _ended(user_id, dice, "Expired"))


def _unheard_of(user_id: str, dice: random.Random) -> dict[str, Any]:
    odd = _contract(user_id, dice, status="PAUSED_BY_MOON", contractDuration="LUNAR", someNewKey={"deep": [1]})
    return _having(dice, odd, more=(_entitlement(dice, type="hologram", origin={"type": "TELEPATHY"}),))


KINDS: dict[str, Callable[[str, random.Random], dict[str, Any]]] = {
    "recurring": _recurring,
    "renewable": _renewable,
    "perpetual": _perpetual,
    "no_duration": _no_duration,
    "overdue": _overdue,
    "will_cancel": _will_cancel,
    "canceled": _canceled,
    "expired": _expired,
    "gifted": _gifted,
    "external": _external,
    "articles": _articles,
    "mixed": _mixed,
    "unheard_of": _unheard_of,
}
"""Those who have something."""
