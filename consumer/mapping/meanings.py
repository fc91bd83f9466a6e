"""What each account field and each kind of tag means, for the readers of `docs/contacts.md`.

The page's two tables are made from here (`python -m consumer.mapping.meanings`), and a test keeps them equal. The
examples belong to one reader, whom the page introduces; a test derives them from her state.
"""

import sys
from typing import Final

from msgspec import Struct

from consumer.mapping.fields import ACCOUNT_FIELDS, FieldValue


class FieldMeaning(Struct, frozen=True):
    """One account field: how its value is found, when it is empty, and what it is good for."""

    name: str
    rule: str
    empty: str
    example: FieldValue
    segment: str


class TagMeaning(Struct, frozen=True):
    """One kind of tag: when a contact has it, when it is removed, and what it is good for."""

    pattern: str
    rule: str
    removed: str
    example: str
    segment: str


FIELDS: Final = (
    FieldMeaning(
        "Sesamy User ID",
        "The id of the user at Sesamy. It connects the contact with the user.",
        "never",
        "email|84cccf985de28a2a84824786",
        "is not empty: everyone who comes from Sesamy",
    ),
    FieldMeaning(
        "Has Active Subscription",
        "Yes if *Active Subscriptions* is 1 or more, otherwise no.",
        "never",
        True,
        "is yes: current subscribers",
    ),
    FieldMeaning(
        "Articles Purchased",
        "How many single articles the user has bought, whether or not they can still be read.",
        "never; 0 without one",
        1,
        "is greater than 0: readers who pay per article",
    ),
    FieldMeaning(
        "Active Subscriptions",
        "How many subscriptions are active. One whose payment failed counts while it is in its grace period. "
        "One-time purchases do not count.",
        "never; 0 without one",
        2,
        "is greater than 1: readers with several products",
    ),
    FieldMeaning(
        "Canceled Subscriptions",
        "How many subscriptions have the status *canceled*.",
        "never; 0 without one",
        1,
        "is greater than 0, and *Has Active Subscription* is no: people who left by their own decision",
    ),
    FieldMeaning(
        "Expired Subscriptions",
        "How many subscriptions have the status *expired*: they ran out.",
        "never; 0 without one",
        1,
        "is greater than 0, and *Has Active Subscription* is no: a win-back campaign",
    ),
    FieldMeaning(
        "Ended Subscriptions Total",
        "*Canceled Subscriptions* plus *Expired Subscriptions*.",
        "never; 0 without one",
        2,
        "is 0, and *Has Active Subscription* is yes: people with their first subscription",
    ),
    FieldMeaning(
        "Issues Remaining",
        "How many issues are left, added up over the active subscriptions that count issues.",
        "when no active subscription counts issues",
        4,
        "is less than 3: a reminder to renew",
    ),
    FieldMeaning(
        "Subscription Expires At",
        "The day on which the primary active *renewable* subscription ends unless it is renewed. "
        "A subscription that renews by itself has no such day.",
        "when no active renewable subscription has an end",
        "2027-06-30",
        "is within the next 14 days: a renewal reminder",
    ),
    FieldMeaning(
        "Contract Duration Type",
        "How the primary active subscription continues: `RENEWABLE` (ends unless it is renewed) or `RECURRING` "
        "(renews by itself). The primary one is a renewable one if there is one; of several, the one that ends last.",
        "when no subscription is active",
        "RENEWABLE",
        "is `RENEWABLE`: people who must act to stay",
    ),
    FieldMeaning(
        "Last Payment Date",
        "The day of the newest payment that was not a refund.",
        "when there is no payment",
        "2026-11-01",
        "is in the last 30 days: people who paid recently",
    ),
    FieldMeaning(
        "Next Payment Date",
        "The earliest day on which an active subscription will be billed.",
        "when no active subscription will be billed",
        "2026-12-01",
        "is within the next 7 days: a payment reminder",
    ),
    FieldMeaning(
        "Will Cancel At",
        "The earliest day on which an active subscription will end because it was cancelled.",
        "when no active subscription is cancelled, also after a cancellation was undone",
        "2027-01-15",
        "is not empty: people who have cancelled and still read",
    ),
)

TAGS: Final = (
    TagMeaning(
        "sesamy_active_subscriber",
        "At least one subscription is active.",
        "when no subscription is active",
        "sesamy_active_subscriber",
        "current subscribers",
    ),
    TagMeaning(
        "sesamy_overdue_contract",
        "A payment failed, and the contract is still in its grace period.",
        "when no contract is overdue",
        "sesamy_overdue_contract",
        "ask for a new payment card",
    ),
    TagMeaning(
        "sesamy_made_single_purchase",
        "At least one article or other single item was ever bought.",
        "never",
        "sesamy_made_single_purchase",
        "offer a subscription to buyers of single items",
    ),
    TagMeaning(
        "sesamy_has_gifted_subscription",
        "Someone else pays for an active subscription.",
        "when no subscription is active",
        "sesamy_has_gifted_subscription",
        "offer a subscription of their own when the gift ends",
    ),
    TagMeaning(
        "sesamy_has_external_access",
        "The user has access that was not bought through Sesamy.",
        "when that access ends",
        "sesamy_has_external_access",
        "leave these readers out of sales campaigns",
    ),
    TagMeaning(
        "sesamy_active_entitlement_{product}",
        "The user has access to this product, by its title.",
        "when the access ends, or the product gets another title",
        "sesamy_active_entitlement_the-magazine",
        "everyone who can read one product",
    ),
    TagMeaning(
        "sesamy_active_sku_{sku}",
        "The user has access to this article number (SKU).",
        "when the access ends",
        "sesamy_active_sku_mag-1",
        "everyone who can read one product, whatever its title is",
    ),
    TagMeaning(
        "sesamy_active_sku_po_{sku-option}",
        "The user has access to this SKU through this purchase option.",
        "when the access ends",
        "sesamy_active_sku_po_mag-1-print",
        "readers of one edition, such as print",
    ),
    TagMeaning(
        "sesamy_tag_{custom}",
        "The user's profile at Sesamy has this tag.",
        "when the profile loses the tag",
        "sesamy_tag_panel-2026",
        "groups that are kept at Sesamy",
    ),
)


def field_table() -> str:
    """Return the table of account fields as Markdown."""
    kinds = {field.name: field.type for field in ACCOUNT_FIELDS}
    rows = [
        f"| {it.name} | {kinds[it.name]} | {it.rule} | {it.empty} | {_shown(it.example)} | {it.segment} |"
        for it in FIELDS
    ]
    return "\n".join(
        ["| field | type | value | empty | example | a segment with it |", "|---|---|---|---|---|---|", *rows]
    )


def tag_table() -> str:
    """Return the table of tags as Markdown."""
    rows = [f"| `{it.pattern}` | {it.rule} | {it.removed} | `{it.example}` | {it.segment} |" for it in TAGS]
    return "\n".join(["| tag | a contact has it when | removed | example | good for |", "|---|---|---|---|---|", *rows])


def _shown(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("|", "\\|")
    return f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(f"{field_table()}\n\n{tag_table()}\n")
