from pathlib import Path
from typing import Any

import pytest

from consumer.clients.sesamy import ListedUser
from consumer.reconcile.address_file import read_addresses
from consumer.reconcile.search import Found
from consumer.reconcile.suspects import KnownUsers, Suspect, owner, standing
from consumer.settings import SettingsError
from schemas.sesamy import Profile

KARI = "kari@x.no"


@pytest.mark.parametrize(
    ("profile", "judged"),
    [
        (None, "gone"),
        (Profile(email=KARI), "fine"),
        (Profile(email=" Kari@X.no "), "fine"),
        (Profile(email=KARI, is_guest=True), "fine"),
        (Profile(email="ola@x.no"), "moved"),
        (Profile(email="ola@x.no", is_guest=True), "moved"),
        (Profile(email=" "), "moved"),
        (Profile(), "moved"),
    ],
)
def test_a_contact_is_judged_by_its_users_address_of_now(profile: Profile | None, judged: str) -> None:
    assert standing(profile, KARI) == judged


@pytest.mark.parametrize(
    ("value", "user_id"),
    [
        ("email|1", "email|1"),
        (" email|1\n", "email|1"),
        ("", None),
        ("  ", None),
        (None, None),
        (7, "7"),
        (7.5, None),
        (True, None),
        (["email|1"], None),
        (".", None),
        ("..", None),
    ],
)
def test_ours_is_a_contact_with_a_user_id_that_can_be_asked_for(value: Any, user_id: str | None) -> None:
    assert owner({"Sesamy User ID": value, "sesamy user id": "email|2"}) == user_id
    assert owner(None) is owner({}) is None


def test_a_user_is_known_with_the_address_of_now_alone() -> None:
    known = KnownUsers()
    for user in (
        ListedUser("email|1", Profile(email="Kari@x.no ")),
        ListedUser("email|2", Profile(email="")),
        ListedUser("email|3", None),
        ListedUser(None, Profile(email="ola@x.no")),
        ListedUser("..", Profile(email="dot@x.no")),
    ):
        known.add(user)
    assert known.has("email|1", KARI)
    assert not any(known.has(*pair) for pair in (("email|1", "ola@x.no"), ("email|2", ""), ("email|3", KARI)))
    assert (known.count, known.samples) == (5, ["email|1", "email|2"])


@pytest.mark.parametrize(
    ("users", "ours", "suspects", "alarm"),
    [(5, 10, 0, None), (5, 10, 5, None), (5, 10, 6, "more than half"), (5, 1, 1, "more than half"), (0, 0, 0, None)],
)
def test_when_it_smells_of_wrong_credentials(users: int, ours: int, suspects: int, alarm: str | None) -> None:
    found = Found(users=users, ours=ours, suspects=[Suspect(f"{n}@x.no", "email|1") for n in range(suspects)])
    assert (found.alarm is None) if alarm is None else (alarm in str(found.alarm))


def test_no_user_at_all_is_an_alarm_of_its_own() -> None:
    assert "no user" in str(Found(ours=10, suspects=[Suspect(KARI, "email|1")]).alarm)


def test_addresses_are_read_once_each_in_order(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_bytes('\ufeffE-mail\r\n"Kari@x.no"\r\n\r\n ola@x.no \r\nkari@X.no\r\n'.encode())
    assert read_addresses(file) == ["kari@x.no", "ola@x.no"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no address"),
        (b"E-mail\n", "holds no address"),
        (b"kari@x.no\nKari Nordmann\n", "line 2 "),
        (b"email\nkari@x.no,Kari\n", "line 2 "),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_none_is_said_without_what_it_holds(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "contacts"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as raised:
        read_addresses(file)
    assert "Kari" not in str(raised.value)
    with pytest.raises(SettingsError, match="--contacts"):
        read_addresses(tmp_path / "none")
