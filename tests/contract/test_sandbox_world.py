"""The invented world: the same for the same seed, every kind in it, and a version that shows."""

import copy
import itertools

import pytest

from consumer.sandbox import Answers, Contact, User, World
from consumer.sandbox.population import CONTACTS, ORDINARY, USERS, Seed

EVERY_MIXTURE = 17 * 11 * 7


def populated(n: int, seed: int = 1) -> World:
    world = World(clock=lambda: 0.0, wall=lambda: 1_700_000_000.0)
    world.populate(n, seed)
    return world


def users_of(world: World) -> list[User]:
    return [user for user_id in world.user_ids() if (user := world.user(user_id))]


def test_the_same_seed_makes_the_same_world_in_any_order_of_reading() -> None:
    one, other = populated(300), populated(300)
    backwards = [other.user(user_id) for user_id in reversed(other.user_ids())][::-1]
    assert users_of(one) == backwards
    assert list(one.contacts()) == list(other.contacts())
    assert users_of(populated(300, seed=2))[0] != users_of(one)[0]


def test_every_kind_of_user_meets_every_kind_of_contact_and_address() -> None:
    met = {(USERS[n % len(USERS)], CONTACTS[n % len(CONTACTS)], n % 7) for n in range(EVERY_MIXTURE)}
    assert met == set(itertools.product(USERS, CONTACTS, range(7)))


def test_the_states_of_the_reference_are_there() -> None:
    users = users_of(populated(400))
    contracts = [contract for user in users for contract in user.contracts]
    assert {"ACTIVE", "OVERDUE", "CANCELED", "CANCELLED", "EXPIRED", "CLOSED"} <= {one["status"] for one in contracts}
    durations = {contract.get("contractDuration", "missing") for contract in contracts}
    assert {"RECURRING", "RENEWABLE", "PERPETUAL", "missing"} <= durations
    for key in ("payerUserId", "giftedBy", "willCancelAt", "issuesRemaining"):
        assert any(contract.get(key) for contract in contracts), key
    entitlements = [entitlement for user in users for entitlement in user.entitlements]
    assert {"EXTERNAL", "PAYMENTS"} <= {one["origin"]["type"] for one in entitlements}
    assert any(one["type"] == "article" for one in entitlements)
    assert any(one["isRefund"] for user in users for one in user.transactions)
    assert {"email", "auth0", "auth2", "google-oauth2", "guest", "anonymous"} == {
        user.id.split("|")[0] for user in users
    }
    assert any(user.profile.get("isGuest") for user in users)
    addresses = [str(user.profile["email"] or "").strip() for user in users]
    for part in ("+", "ø", "%", "'", "N"):
        assert any(part in address for address in addresses), part
    assert any(not address for address in addresses)


def test_the_contacts_of_the_reference_are_there() -> None:
    contacts = list(populated(400).contacts())
    assert {contact.status for contact in contacts} == {"a", "u", "b", "d"}
    assert {contact.on_list(7) for contact in contacts} == {"a", "u", "b", "d", None}
    assert any(contact.custom.get("Shoe size") for contact in contacts)
    assert any("sesamy_made_single_purchase" in contact.tags for contact in contacts)
    assert any(contact.first_name for contact in contacts)


def test_ordinary_users_all_have_an_address_and_are_no_guests() -> None:
    assert {Seed(1, n, kind, "none").address != "" for n, kind in enumerate(ORDINARY)} == {True}
    assert not {"guest_marked", "guest_prefixed", "no_email"} & set(ORDINARY)


def test_a_change_raises_the_version_and_shows_it() -> None:
    world = World()
    world.add_user("u", profile={"tags": ["VIP"]}, contracts=[{"id": "c", "issuesRemaining": 1}, {"id": "d"}])
    before = copy.deepcopy(world.user("u"))
    assert world.change("u", profile={"email": "a@x.no"}) == 2
    user = world.user("u")
    assert before
    assert user
    assert (before.profile["tags"], user.profile["tags"]) == (["VIP", "v-000001"], ["VIP", "v-000002"])
    assert [contract.get("issuesRemaining") for contract in user.contracts] == [2, None]
    assert [(change.user_id, change.version) for change in world.changes] == [("u", 2)]


def test_a_contact_carries_the_version_it_was_written_with() -> None:
    assert Contact(email="a@x.no", tags=("sesamy_tag_v-000041", "x")).user_version == 41
    assert Contact(email="a@x.no", tags=("sesamy_tag_v-x",)).user_version is None


def test_an_unknown_user_or_contact_cannot_be_changed() -> None:
    world = World()
    with pytest.raises(KeyError):
        world.change("nobody")
    with pytest.raises(KeyError):
        world.edit_contact("nobody@x.no", tags=[])


def test_variants_hold_each_answer_to_each_unknown_once() -> None:
    variants = Answers.variants()
    assert len(variants) == 1 + sum(len(answers) - 1 for answers in Answers.choices().values())
    assert len(set(variants.values())) == len(variants)
    assert variants["custom=replace"] == Answers(custom="replace")


@pytest.mark.parametrize("pair", ["nothing=x", "custom=append", "custom"])
def test_an_answer_that_does_not_exist_is_named(pair: str) -> None:
    with pytest.raises(ValueError, match=pair.partition("=")[0]):
        Answers.of([pair])
