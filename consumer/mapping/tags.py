"""The nine kinds of tags, and how they join those that a contact has (`docs/reference/sesamy.md`, "Tags")."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from unicodedata import normalize

from consumer.mapping.entitlements import has_access, is_bought_article, is_external
from consumer.mapping.state import UserState
from consumer.mapping.subscriptions import Subscriptions, is_single_purchase, status
from schemas.sesamy import Contract, Entitlement, Identifier

PREFIX: Final = "sesamy_"
"""A tag is ours if it starts with this, spelled exactly so; every other tag is left alone."""

ACTIVE_SUBSCRIBER: Final = "sesamy_active_subscriber"
OVERDUE_CONTRACT: Final = "sesamy_overdue_contract"
SINGLE_PURCHASE: Final = "sesamy_made_single_purchase"
GIFTED: Final = "sesamy_has_gifted_subscription"
EXTERNAL_ACCESS: Final = "sesamy_has_external_access"

_MAX_LENGTH = 99
_SEPARATORS = re.compile(r"[\W_]+")


def derive_tags(state: UserState, subscriptions: Subscriptions) -> frozenset[str]:
    """Return the tags that the user's state calls for, all but `GIFTED` (see `gifted`)."""
    return frozenset(_tags(state, subscriptions))


def gifted(state: UserState, subscriptions: Subscriptions) -> bool | None:
    """Tell whether somebody else pays a subscription that runs; None when nothing says so, and one runs.

    No documented field says "gifted". Assumed: a contract names its payer in `payerUserId` or `giftedBy`, and the
    gift lasts as long as that subscription runs.
    """
    if not subscriptions.active:
        return False
    return True if any(_is_gift(contract, state.user_id) for contract in subscriptions.active) else None


def merge_tags(existing: Iterable[str], wanted: frozenset[str], *, is_gifted: bool | None) -> list[str]:
    """Return the whole list to write: foreign tags as they are, in their order, then ours, sorted."""
    existing = list(existing)
    kept = {SINGLE_PURCHASE}  # permanent
    if is_gifted is None:
        kept.add(GIFTED)
    ours = wanted | kept.intersection(existing) | ({GIFTED} if is_gifted else set())
    return [tag for tag in existing if not is_ours(tag)] + sorted(ours)


def is_ours(tag: str) -> bool:
    """Tell whether the tag is for this program to add and remove."""
    return tag.startswith(PREFIX)


@lru_cache(maxsize=4096)
def slug(text: str) -> str:
    """Return the variable part of a tag: lower-case letters (Nordic ones too) and digits, joined by hyphens.

    Kept for a while: products are few, and many users have them.
    """
    return _SEPARATORS.sub("-", normalize("NFC", normalize("NFC", text).lower())).strip("-")


def _tags(state: UserState, subscriptions: Subscriptions) -> Iterator[str]:
    if subscriptions.active:
        yield ACTIVE_SUBSCRIBER
    if any(status(contract) == "OVERDUE" for contract in state.contracts):
        yield OVERDUE_CONTRACT
    if any(map(is_single_purchase, state.contracts)) or any(map(is_bought_article, state.entitlements)):
        yield SINGLE_PURCHASE
    for entitlement in filter(has_access, state.entitlements):
        if is_external(entitlement):
            yield EXTERNAL_ACCESS
        yield from _access_tags(entitlement)
    for custom in state.profile.tags or ():
        yield from _variable("tag", custom)


def _access_tags(entitlement: Entitlement) -> Iterator[str]:
    yield from _variable("active_entitlement", entitlement.title)
    yield from _variable("active_sku", entitlement.sku)
    if slug(_text(entitlement.sku)) and slug(_text(entitlement.purchase_option)):
        yield from _variable("active_sku_po", f"{entitlement.sku}-{entitlement.purchase_option}")


def _variable(kind: str, value: Identifier | None) -> Iterator[str]:
    if part := slug(_text(value)):
        yield f"{PREFIX}{kind}_{part}"[:_MAX_LENGTH].rstrip("-")  # a cut may fall right after a hyphen


def _text(value: Identifier | None) -> str:
    return "" if value is None else str(value)


def _is_gift(contract: Contract, user_id: str) -> bool:
    return any(payer and str(payer) != user_id for payer in (contract.payer_user_id, contract.gifted_by))
