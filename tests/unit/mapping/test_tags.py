from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.mapping.state import UserState
from consumer.mapping.subscriptions import survey
from consumer.mapping.tags import derive_tags, gifted, merge_tags, slug
from schemas.sesamy import Contract, Entitlement, Origin, Profile

ACTIVE = Contract(id="c", is_active=True, contract_duration="RENEWABLE")


def user(profile: Profile | None = None, **state: Any) -> UserState:
    return UserState(user_id="email|1", profile=profile or Profile(), **state)


def tags(**state: Any) -> set[str]:
    return set(derive_tags(user(**state), survey(state.get("contracts", ()))))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, set()),
        ({"contracts": (ACTIVE,)}, {"sesamy_active_subscriber"}),
        (
            {"contracts": (Contract(id="c", status="OVERDUE", contract_duration="RECURRING"),)},
            {"sesamy_active_subscriber", "sesamy_overdue_contract"},
        ),
        ({"contracts": (Contract(id="c", status="EXPIRED", contract_duration="RECURRING"),)}, set()),
        (
            {"contracts": (Contract(id="c", status="CLOSED", contract_duration="PERPETUAL", is_active=True),)},
            {"sesamy_made_single_purchase"},
        ),
        ({"entitlements": (Entitlement(id="e", type="article"),)}, {"sesamy_made_single_purchase"}),
        ({"entitlements": (Entitlement(id="e", type="article", origin=Origin(type="EXTERNAL")),)}, set()),
        ({"entitlements": (Entitlement(id="e", origin=Origin(type="EXTERNAL"), has_access=False),)}, set()),
        (
            {"entitlements": (Entitlement(id="e", origin=Origin(type="external"), has_access=True),)},
            {"sesamy_has_external_access"},
        ),
        (
            {
                "entitlements": (
                    Entitlement(id="e", has_access=True, title="Ærlig  Talt!", sku="AB_1", purchase_option="Måned"),
                )
            },
            {"sesamy_active_entitlement_ærlig-talt", "sesamy_active_sku_ab-1", "sesamy_active_sku_po_ab-1-måned"},
        ),
        ({"entitlements": (Entitlement(id="e", has_access=True, sku="s"),)}, {"sesamy_active_sku_s"}),
        ({"entitlements": (Entitlement(id="e", has_access=True, purchase_option="po"),)}, set()),
        ({"entitlements": (Entitlement(id="e", title="T", sku="s", purchase_option="po"),)}, set()),
        ({"profile": Profile(tags=["VIP kunde", "!!", "vip-kunde"])}, {"sesamy_tag_vip-kunde"}),
    ],
)
def test_the_state_calls_for_these_tags(state: dict[str, Any], expected: set[str]) -> None:
    assert tags(**state) == expected


@pytest.mark.parametrize(
    ("contracts", "expected"),
    [
        ((), False),
        ((Contract(id="c", is_active=False, contract_duration="RENEWABLE", payer_user_id="email|2"),), False),
        ((ACTIVE,), None),
        ((Contract(id="c", is_active=True, contract_duration="RENEWABLE", payer_user_id="email|1"),), None),
        ((Contract(id="c", is_active=True, contract_duration="RENEWABLE", payer_user_id="email|2"),), True),
        ((ACTIVE, Contract(id="d", is_active=True, contract_duration="RECURRING", gifted_by={"name": "x"})), True),
        ((Contract(id="c", is_active=True, contract_duration="RENEWABLE", gifted_by=False),), None),
    ],
)
def test_a_gift_is_a_running_subscription_that_somebody_else_pays(
    contracts: tuple[Contract, ...], expected: bool | None
) -> None:
    assert gifted(user(contracts=contracts), survey(contracts)) is expected


GIFT, SINGLE = "sesamy_has_gifted_subscription", "sesamy_made_single_purchase"


@pytest.mark.parametrize(
    ("existing", "wanted", "is_gifted", "expected"),
    [
        ([], set(), False, []),
        (["z", "a"], {"sesamy_b", "sesamy_a"}, False, ["z", "a", "sesamy_a", "sesamy_b"]),
        (["sesamy_old", "z", "sesamy_a", "a"], {"sesamy_a"}, False, ["z", "a", "sesamy_a"]),
        ([SINGLE, "z"], set(), False, ["z", SINGLE]),
        ([GIFT], set(), None, [GIFT]),
        ([GIFT], set(), False, []),
        ([], set(), None, []),
        ([], set(), True, [GIFT]),
        (
            ["Sesamy_x", "my sesamy_x", "sesamy", "z", "z"],
            set(),
            False,
            ["Sesamy_x", "my sesamy_x", "sesamy", "z", "z"],
        ),
    ],
)
def test_ours_join_the_foreign_ones(
    existing: list[str], wanted: set[str], is_gifted: bool | None, expected: list[str]
) -> None:
    assert merge_tags(existing, frozenset(wanted), is_gifted=is_gifted) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aftenposten Junior", "aftenposten-junior"),
        ("  BLÅBÆR & Øl__2025 ", "blåbær-øl-2025"),
        ("A\u030arets", "årets"),
        ("--", ""),
        ("", ""),
        ("a--b", "a-b"),
    ],
)
def test_a_slug_is_lower_case_letters_and_digits_joined_by_hyphens(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(st.text())
def test_a_slug_of_a_slug_is_itself(text: str) -> None:
    made = slug(text)
    assert slug(made) == made
    assert made == made.strip("-")
    assert all(part.isalnum() for part in made.split("-") if made)


names = st.none() | st.text(max_size=150)


@given(title=names, sku=names, option=names, custom=st.lists(st.text(max_size=150), max_size=3))
def test_every_tag_is_ours_and_short_enough(title: str, sku: str, option: str, custom: list[str]) -> None:
    entitlement = Entitlement(id="e", has_access=True, title=title, sku=sku, purchase_option=option)
    for tag in tags(entitlements=(entitlement,), profile=Profile(tags=custom)):
        assert tag.startswith("sesamy_")
        assert len(tag) <= 99
        assert not tag.endswith(("_", "-"))
        assert slug(tag.rsplit("_", 1)[1]) == tag.rsplit("_", 1)[1]


def test_a_long_tag_is_cut_to_99_characters() -> None:
    assert tags(profile=Profile(tags=["x" * 200])) == {"sesamy_tag_" + "x" * 88}
    assert tags(profile=Profile(tags=["x" * 87 + " y"])) == {"sesamy_tag_" + "x" * 87}
