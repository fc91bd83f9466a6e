from typing import Any

import pytest

from consumer.mapping import person
from schemas.sesamy import Profile

PREFIXES = ("guest|", "anonymous|")


@pytest.mark.parametrize(
    ("user_id", "profile", "guest"),
    [
        ("email|1", Profile(), False),
        ("guest|1", Profile(), True),
        ("anonymous|1", Profile(), True),
        ("auth2|guest|1", Profile(), False),
        ("email|1", Profile(is_guest=True), True),
        ("email|1", Profile(guest=True), True),
        ("email|1", Profile(guest="true"), True),
        ("email|1", Profile(is_guest=1), True),
        ("email|1", Profile(temporary="0"), False),
        ("email|1", Profile(is_guest="maybe"), False),
        ("email|1", Profile(temporary=True), True),
        ("email|1", Profile(is_guest=False, guest=None, temporary=False), False),
        ("email|1", Profile(guest={"of": "somebody"}), False),
    ],
)
def test_a_guest_is_marked_by_the_profile_or_by_the_id(user_id: str, profile: Profile, guest: bool) -> None:
    assert person.is_guest(user_id, profile, PREFIXES) is guest


def test_an_empty_prefix_makes_nobody_a_guest() -> None:
    assert not person.is_guest("email|1", Profile(), ("",))


@pytest.mark.parametrize(
    ("email", "expected"),
    [(None, None), ("", None), ("  ", None), (" Kari.Nordmann@Example.NO\n", "kari.nordmann@example.no")],
)
def test_an_address_is_trimmed_and_lower_case(email: str | None, expected: str | None) -> None:
    assert person.address(Profile(email=email)) == expected


def test_the_first_phone_that_is_not_blank_wins_from_mobile_to_home() -> None:
    numbers: dict[str, Any] = {
        "mobile_phone": "1",
        "phone_number": "2",
        "phone": "3",
        "work_phone": "4",
        "home_phone": "5",
    }
    for name, number in list(numbers.items()):
        assert person.phone(Profile(**numbers)) == number
        numbers[name] = "  "
    assert person.phone(Profile(**numbers)) is None


def test_each_name_falls_back_on_its_own() -> None:
    profile = Profile(first_name=" ", given_name=" Ola ", last_name="Nordmann", family_name="Hansen")
    assert (person.first_name(profile), person.last_name(profile)) == ("Ola", "Nordmann")
    assert (person.first_name(Profile()), person.last_name(Profile())) == (None, None)
