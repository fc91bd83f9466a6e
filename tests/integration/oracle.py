"""What a contact must look like after a sync, worked out a second time from `reference/*.md` and the seed.

Nothing here comes from the program: a misreading there must not be repeated by its judge.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from consumer.sandbox import Contact, User

_FAR_PAST = datetime.min.replace(tzinfo=UTC)
_RANK = {"RENEWABLE": 0, "RECURRING": 1}


class View(Struct, frozen=True):
    """A contact, less what the fakes count for themselves."""

    first_name: str
    last_name: str
    phone: str
    tags: tuple[str, ...]
    custom: dict[str, Any]
    status: str
    lists: dict[int, str]

    @classmethod
    def of(cls, contact: Contact | None) -> "View | None":
        if contact is None:
            return None
        return cls(
            contact.first_name,
            contact.last_name,
            contact.phone,
            contact.tags,
            contact.custom,
            contact.status,
            {place.list_id: place.status for place in contact.associations},
        )


def is_skipped(user: User) -> bool:
    """Tell whether the user is a guest or has no e-mail address."""
    marked = any(user.profile.get(key) is True for key in ("isGuest", "guest", "temporary"))
    return marked or user.id.startswith(("guest|", "anonymous|")) or not address(user)


def address(user: User) -> str:
    """Return the address that the contact goes by, empty for a user without."""
    return str(user.profile.get("email") or "").strip().lower()


def expected(user: User, before: Contact | None, list_id: int) -> View | None:
    """Return the contact after a sync of the user; None when there is none. `before` is what Mailmojo had."""
    if is_skipped(user):
        return View.of(before)
    old = View.of(before) or View("", "", "", (), {}, "a", {})
    profile = user.profile
    fields = {key: value for key, value in _fields(user).items() if value is not None}
    foreign = {key: value for key, value in old.custom.items() if key not in _fields(user)}
    left = old.status != "a" or old.lists.get(list_id, "a") != "a"
    return View(
        first_name=old.first_name.strip() or _first(profile, "firstName", "given_name"),
        last_name=old.last_name.strip() or _first(profile, "lastName", "family_name"),
        phone=old.phone.strip() or _first(profile, "mobilePhone", "phone_number", "phone", "workPhone", "homePhone"),
        tags=(*(tag for tag in old.tags if not tag.startswith("sesamy_")), *sorted(set(_tags(user, old.tags)))),
        custom=foreign | fields,
        status=old.status,
        lists=old.lists if left else old.lists | {list_id: "a"},
    )


def _first(profile: Mapping[str, Any], *keys: str) -> str:
    return next((value for key in keys if (value := str(profile.get(key) or "").strip())), "")


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _day(text: str | None) -> str | None:
    instant = _instant(text)
    return instant.strftime("%Y-%m-%d") if instant else None


def _is_subscription(contract: Mapping[str, Any]) -> bool:
    duration = contract.get("contractDuration")
    if duration:
        return bool(duration != "PERPETUAL")
    return bool(contract.get("recurringInterval") or contract.get("nextBillAt"))


def _is_renewable(contract: Mapping[str, Any]) -> bool:
    if contract.get("contractDuration"):
        return bool(contract["contractDuration"] == "RENEWABLE")
    return bool(contract.get("expiresAt")) and not (contract.get("nextBillAt") or contract.get("recurringInterval"))


def _status(contract: Mapping[str, Any]) -> str:
    status = str(contract.get("status") or "").upper()
    return "CANCELED" if status == "CANCELLED" else status


def _is_active(contract: Mapping[str, Any]) -> bool:
    says = contract.get("isActive")
    return _status(contract) in {"ACTIVE", "OVERDUE"} if says is None else bool(says)


def _primary(active: list[dict[str, Any]]) -> dict[str, Any]:
    # Stable sorts, the least important key first.
    ranked = sorted(active, key=lambda one: str(one["id"]))
    ranked.sort(key=lambda one: _instant(one.get("createdAt")) or _FAR_PAST, reverse=True)
    ranked.sort(key=lambda one: _instant(one.get("expiresAt")) or _FAR_PAST, reverse=True)
    ranked.sort(key=lambda one: _RANK.get(str(one.get("contractDuration")), 2))
    return ranked[0] if ranked else {}


def _fields(user: User) -> dict[str, Any]:
    subscriptions = [contract for contract in user.contracts if _is_subscription(contract)]
    active = [contract for contract in subscriptions if _is_active(contract)]
    canceled = sum(_status(contract) == "CANCELED" for contract in subscriptions)
    expired = sum(_status(contract) == "EXPIRED" for contract in subscriptions)
    articles = [
        one for one in user.entitlements if one["type"] == "article" and one.get("origin", {}).get("type") != "EXTERNAL"
    ]
    issues = [one["issuesRemaining"] for one in active if one.get("issuesRemaining") is not None]
    payments = [str(one["createdAt"]) for one in user.transactions if not one.get("isRefund")]
    primary = _primary(active)
    renewable = [contract for contract in user.contracts if _is_active(contract) and _is_renewable(contract)]
    return {
        "Sesamy User ID": user.id,
        "Has Active Subscription": len(active) > 0,
        "Articles Purchased": len(articles),
        "Active Subscriptions": len(active),
        "Canceled Subscriptions": canceled,
        "Expired Subscriptions": expired,
        "Ended Subscriptions Total": canceled + expired,
        "Issues Remaining": sum(issues) if issues else None,
        "Subscription Expires At": _day(_primary(renewable).get("expiresAt")),
        "Contract Duration Type": primary.get("contractDuration"),
        "Last Payment Date": _day(max(payments, default=None)),
        "Next Payment Date": _earliest(active, "nextBillAt"),
        "Will Cancel At": _earliest(active, "willCancelAt"),
    }


def _earliest(contracts: list[dict[str, Any]], key: str) -> str | None:
    return _day(min((str(one[key]) for one in contracts if one.get(key)), default=None))


def _tags(user: User, before: tuple[str, ...]) -> Iterator[str]:
    subscriptions = [contract for contract in user.contracts if _is_subscription(contract)]
    is_subscriber = any(_is_active(contract) for contract in subscriptions)
    if is_subscriber:
        yield "sesamy_active_subscriber"
    if any(_status(contract) == "OVERDUE" for contract in user.contracts):
        yield "sesamy_overdue_contract"
    bought_once = len(subscriptions) < len(user.contracts) or _fields(user)["Articles Purchased"]
    if bought_once or "sesamy_made_single_purchase" in before:
        yield "sesamy_made_single_purchase"
    somebody_pays = any((one.get("payerUserId") or one.get("giftedBy") or user.id) != user.id for one in user.contracts)
    if somebody_pays or (is_subscriber and "sesamy_has_gifted_subscription" in before):
        yield "sesamy_has_gifted_subscription"
    for one in user.entitlements:
        if not one.get("hasAccess"):
            continue
        if one.get("origin", {}).get("type") == "EXTERNAL":
            yield "sesamy_has_external_access"
        yield from _tag("active_entitlement", one.get("title"))
        yield from _tag("active_sku", one.get("sku"))
        if one.get("purchaseOption"):
            yield from _tag("active_sku_po", f"{one['sku']}-{one['purchaseOption']}")
    for custom in user.profile.get("tags") or []:
        yield from _tag("tag", custom)


def _tag(kind: str, text: str | None) -> Iterator[str]:
    lowered = unicodedata.normalize("NFC", text or "").lower()
    slug = "-".join(re.findall(r"[^\W_]+", lowered))
    if slug:
        yield f"sesamy_{kind}_{slug}"[:99]
