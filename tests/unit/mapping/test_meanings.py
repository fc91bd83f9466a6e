"""`docs/contacts.md` says what the code does: every field and tag, and an example that the code derives."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.mapping.contact import derive
from consumer.mapping.fields import ACCOUNT_FIELDS
from consumer.mapping.meanings import FIELDS, TAGS, field_table, tag_table
from consumer.mapping.state import Rules, UserState
from consumer.mapping.tags import GIFTED
from schemas.sesamy import Contract, Entitlement, Origin, Profile, Transaction

PAGE = Path(__file__).parents[3] / "docs/contacts.md"

KARI = UserState(
    user_id="email|84cccf985de28a2a84824786",
    profile=Profile(user_id="email|84cccf985de28a2a84824786", email="kari@example.no", tags=["Panel 2026"]),
    contracts=(
        Contract(
            id="1",
            status="ACTIVE",
            contract_duration="RENEWABLE",
            issues_remaining=4,
            expires_at="2027-06-30T00:00:00Z",
            gifted_by="email|someone-else",
        ),
        Contract(
            id="2",
            status="OVERDUE",
            contract_duration="RECURRING",
            recurring_interval="MONTHLY",
            next_bill_at="2026-12-01T08:00:00Z",
            will_cancel_at="2027-01-15T00:00:00Z",
        ),
        Contract(id="3", status="CANCELED", is_active=False, contract_duration="RENEWABLE"),
        Contract(id="4", status="EXPIRED", is_active=False, contract_duration="RENEWABLE"),
        Contract(id="5", status="CLOSED", is_active=False, contract_duration="PERPETUAL"),
    ),
    entitlements=(
        Entitlement(id="6", title="The Magazine", sku="MAG-1", purchase_option="print", has_access=True),
        Entitlement(id="7", type="article", has_access=False, origin=Origin(type="PAYMENTS")),
        Entitlement(id="8", type="podcast", has_access=True, origin=Origin(type="EXTERNAL")),
    ),
    transactions=(
        Transaction(id="9", created_at="2026-11-01T09:00:00Z"),
        Transaction(id="10", created_at="2026-11-20T09:00:00Z", is_refund=True),
    ),
)
"""The reader of the page's examples."""


def test_the_page_explains_every_account_field_in_the_order_of_the_code() -> None:
    assert [it.name for it in FIELDS] == [field.name for field in ACCOUNT_FIELDS]


def test_the_tables_of_the_page_are_made_from_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for table in (field_table(), tag_table()):
        assert table in page, "copy the output of: .venv/bin/python -m consumer.mapping.meanings"


def test_every_example_is_what_the_code_derives() -> None:
    derived = derive(KARI, Rules(time_zone=ZoneInfo("UTC"), list_id="1"))
    assert derived.custom == {it.name: it.example for it in FIELDS}
    assert derived.gifted is True
    assert derived.tags | {GIFTED} == {it.example for it in TAGS}


def test_every_kind_of_tag_of_the_references_is_explained() -> None:
    reference = (PAGE.parent / "reference/sesamy.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(sesamy_[^`]+)` \|", reference, re.MULTILINE)
    assert len(listed) == 9
    assert [it.pattern for it in TAGS] == listed
