"""The demo's checks of its own result must be able to fail: each is shown a world in which one thing went wrong."""

import pytest

from consumer.demo import checks
from consumer.demo.cast import Role, cast
from consumer.demo.events import VENDOR, script
from consumer.sandbox import Contact, World
from schemas.events import STANDARD_EVENT_TYPES, MalformedEvent, decode_event


@pytest.fixture
def world() -> World:
    world = World()
    world.populate(34)
    for role in cast():
        role.enter(world)
    return world


@pytest.fixture
def before(world: World) -> dict[str, Contact]:
    return {contact.email.lower(): contact for contact in world.contacts()}


def role(name: str) -> Role:
    return next(one for one in cast() if one.name == name)


def test_a_contact_without_its_users_version_is_stale(world: World) -> None:
    reader = role("new-reader")
    assert any(one.startswith(reader.user_id) for one in checks.stale(world))
    world.add_contact(reader.address, tags=["sesamy_tag_v-000001"])
    assert not any(one.startswith(reader.user_id) for one in checks.stale(world))
    world.change(reader.user_id)
    assert any("version 2" in one for one in checks.stale(world) if one.startswith(reader.user_id))


def test_guests_users_without_an_address_and_exempt_users_are_not_expected(world: World) -> None:
    expected = {one.split()[0] for one in checks.stale(world, exempt={role("refused").user_id})}
    left_out = {user.id for user in checks.users(world)} - expected
    assert {role("guest").user_id, role("refused").user_id} <= left_out
    for user_id in left_out - {role("refused").user_id}:
        user = world.user(user_id)
        assert user is not None
        assert checks.is_guest(user) or not checks.address_of(user)


def test_a_guests_contact_is_found(world: World, before: dict[str, Contact]) -> None:
    assert list(checks.guests_touched(before, world)) == []
    world.add_contact(role("guest").address)
    assert list(checks.guests_touched(before, world)) == [f"{role('guest').user_id} was written"]


@pytest.mark.parametrize(
    ("name", "change", "lost"),
    [
        ("manual-tags", {"tags": ["messe-2024"]}, "tag:VIP"),
        ("manual-tags", {"custom": {}}, "custom:Shoe size"),
        ("filled-name", {"first_name": "Karl"}, "first_name"),
    ],
)
def test_harm_is_found(
    world: World, before: dict[str, Contact], name: str, change: dict[str, object], lost: str
) -> None:
    assert list(checks.harmed(before, world)) == []
    world.edit_contact(role(name).address, **change)
    assert list(checks.harmed(before, world)) == [f"{role(name).address} lost {lost}"]


def test_who_was_subscribed_again_is_found(world: World, before: dict[str, Contact]) -> None:
    assert list(checks.subscribed_again(before, world)) == []
    world.edit_contact(role("unsubscribed").address, status="a")
    assert list(checks.subscribed_again(before, world)) == [role("unsubscribed").address]


def test_the_script_has_all_eight_types_one_malformed_record_and_the_same_seed_the_same_records(world: World) -> None:
    steps = script(world, cast(), seed=3)
    found, malformed = set(), 0
    for step in steps:
        if step.value is None:
            continue
        try:
            event = decode_event(step.value)
        except MalformedEvent:
            malformed += 1
        else:
            if event.vendor_id == VENDOR:
                found.add(event.event_type)
    assert found >= set(STANDARD_EVENT_TYPES)
    assert malformed == 1
    again = script(world, cast(), seed=3)
    assert [(step.at, step.key) for step in again] == [(step.at, step.key) for step in steps]
