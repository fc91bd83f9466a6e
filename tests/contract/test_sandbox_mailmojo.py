"""The fake of Mailmojo against `docs/reference/mailmojo.md`, statement by statement, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from consumer.sandbox import Answers, Contact, Options, Sandbox
from tests.sandbox_client import SandboxClient

KARI = "kari@example.no"
AT_KARI = "/v1/contacts/kari%40example.no/"
SUBSCRIBERS = "/v1/lists/7/subscribers/"


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def mailmojo(answers: Answers) -> AsyncIterator[SandboxClient]:
    async with Sandbox(Options(answers=answers)) as sandbox, aiohttp.ClientSession() as session:
        sandbox.world.fields |= {"Shoe size": "number", "Sesamy User ID": "text", "Will Cancel At": "date"}
        client = SandboxClient(sandbox, session, sandbox.mailmojo_url)
        client.headers = {"Authorization": f"Bearer {sandbox.api_token}"}
        yield client


def contact_of(client: SandboxClient, address: str = KARI) -> Contact:
    contact = client.sandbox.world.contact(address)
    assert contact is not None
    return contact


def under(*pairs: str) -> pytest.MarkDecorator:
    """Run the test under these answers instead of the usual ones."""
    return pytest.mark.parametrize("answers", [Answers.of(pairs)], ids=[",".join(pairs)])


# Basics


async def test_paths_end_with_a_slash(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("GET", AT_KARI.rstrip("/")))[0] == 404
    assert mailmojo.rules_broken == ["every path ends with a slash"]


@under("slashless=redirect")
async def test_a_missing_slash_may_also_be_redirected(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("GET", AT_KARI.rstrip("/")))[0] == 301
    assert mailmojo.answer_headers["Location"] == AT_KARI
    assert mailmojo.rules_broken


@pytest.mark.parametrize(
    "segment", ["kari@example.no", "a+b%40example.no", "bj%C3%B8rn@x.no", "a'b%40x.no", "..", "%FF"]
)
async def test_an_address_in_a_path_is_percent_encoded_with_nothing_safe(mailmojo: SandboxClient, segment: str) -> None:
    assert (await mailmojo("GET", f"/v1/contacts/{segment}/"))[0] == 400
    assert len(mailmojo.rules_broken) == 1


@pytest.mark.parametrize("address", ["a+b@x.no", "bjørn@x.no", "a%b/c#d@x.no", "o'brien@x.no", "a.b-c_d~e@x.no"])
async def test_every_address_is_found_when_fully_encoded(mailmojo: SandboxClient, address: str) -> None:
    mailmojo.sandbox.world.add_contact(address)
    status, contact = await mailmojo("GET", f"/v1/contacts/{quote(address, safe='')}/")
    assert (status, contact["email"]) == (200, address)
    assert not mailmojo.rules_broken


async def test_a_wrong_token_is_401_and_a_missing_one_a_violation(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("GET", AT_KARI, headers={"Authorization": "Bearer expired"}))[0] == 401
    assert not mailmojo.rules_broken
    assert (await mailmojo("GET", AT_KARI, headers={}))[0] == 401
    assert mailmojo.rules_broken


@pytest.mark.parametrize(("target", "method"), [("/v2/contacts/", "GET"), (AT_KARI, "PUT"), ("/v1/lists/7/", "POST")])
async def test_a_path_or_method_that_no_reference_names_is_refused(
    mailmojo: SandboxClient, target: str, method: str
) -> None:
    assert (await mailmojo(method, target))[0] in {404, 405}
    assert len(mailmojo.rules_broken) == 1


async def test_bodies_are_json_and_say_so(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    text = {"headers": mailmojo.headers | {"Content-Type": "text/plain"}, "data": b'{"email": "kari@example.no"}'}
    assert (await mailmojo("PATCH", AT_KARI, **text))[0] == 415
    broken = {"headers": mailmojo.headers | {"Content-Type": "application/json"}, "data": b"{"}
    assert (await mailmojo("PATCH", AT_KARI, **broken))[0] == 400
    assert len(mailmojo.rules_broken) == 2


# The calls about contacts


async def test_an_unknown_contact_is_404_and_no_violation(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("GET", AT_KARI))[0] == 404
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI}))[0] == 404
    assert not mailmojo.rules_broken


async def test_a_contact_has_the_declared_keys(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, first_name="Kari", tags=["x"], custom={"Shoe size": 38})
    _, contact = await mailmojo("GET", AT_KARI)
    assert contact.keys() == {
        *("email", "first_name", "last_name", "phone", "tags", "custom"),
        *("added", "status", "status_changed", "list_associations"),
    }
    assert (contact["first_name"], contact["tags"], contact["custom"]["Shoe size"]) == ("Kari", ["x"], 38)
    (place,) = contact["list_associations"]
    assert place.keys() == {"email", "list_id", "status", "added", "status_changed"}
    assert (place["list_id"], place["status"]) == (7, "a")


async def test_an_address_is_unique_whatever_its_case(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact("Kari@Example.no")
    status, contact = await mailmojo("GET", AT_KARI)
    assert (status, contact["email"]) == (200, "Kari@Example.no")
    assert (await mailmojo("POST", SUBSCRIBERS, {"email": "KARI@example.no", "force_subscribe": False}))[0] == 201
    assert len(list(mailmojo.sandbox.world.contacts())) == 1


async def test_patch_replaces_the_tags_and_keeps_what_was_not_sent(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, phone="123", tags=["sesamy_old", "vip"])
    status, echo = await mailmojo("PATCH", AT_KARI, {"email": KARI, "tags": ["vip", "sesamy_new"]})
    assert (status, echo["tags"], echo["phone"]) == (200, ["vip", "sesamy_new"], "123")
    assert contact_of(mailmojo).tags == ("vip", "sesamy_new")


async def test_an_unknown_key_of_a_body_is_refused(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI, "surname": "x"}))[0] == 400
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI, "force_subscribe": False}))[0] == 400
    assert len(mailmojo.rules_broken) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_name": 1},
        {"first_name": None},
        {"phone": ["1"]},
        {"tags": "vip"},
        {"tags": [1]},
        {"custom": []},
        {"custom": {"Shoe size": "44"}},
        {"custom": {"Shoe size": True}},
        {"custom": {"Will Cancel At": "2026-02-30"}},
        {"custom": {"Will Cancel At": "2026-02-03T00:00:00Z"}},
        {"custom": {"unheard of": {}}},
        {"email": "other@example.no"},
    ],
)
async def test_wrong_types_are_refused_and_change_nothing(mailmojo: SandboxClient, wrong: Any) -> None:
    before = mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI} | wrong))[0] == 400
    assert len(mailmojo.rules_broken) == 1
    assert contact_of(mailmojo) == before


async def test_name_overrides_both_names_and_is_a_violation(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, first_name="Kari")
    await mailmojo("PATCH", AT_KARI, {"email": KARI, "name": "Ola Nordmann"})
    assert contact_of(mailmojo).last_name == "Nordmann"
    assert any("never send it" in rule for rule in mailmojo.rules_broken)


async def test_rule_4_email_is_always_in_a_patch(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("PATCH", AT_KARI, {"tags": []}))[0] == 400
    assert len(mailmojo.rules_broken) == 1


@pytest.mark.parametrize("tags", [["sesamy_a", "vip"], ["sesamy_b", "sesamy_a"], ["sesamy_A"], ["sesamy_" + "x" * 93]])
async def test_rule_2_tags_that_break_their_order_or_form_are_violations(mailmojo: SandboxClient, tags: Any) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI, "tags": tags}))[0] == 200
    assert len(mailmojo.rules_broken) == 1


# The calls about lists


async def test_post_subscribers_creates_a_contact_on_the_list(mailmojo: SandboxClient) -> None:
    body = {"email": KARI, "first_name": "Kari", "tags": ["sesamy_a"], "force_subscribe": False}
    status, contact = await mailmojo("POST", SUBSCRIBERS, body)
    assert (status, contact["status"], contact["first_name"]) == (201, "a", "Kari")
    assert contact_of(mailmojo).on_list(7) == "a"


async def test_post_subscribers_adds_a_contact_that_never_was_on_the_list(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, tags=["vip"], lists={8: "a"})
    await mailmojo("POST", SUBSCRIBERS, {"email": KARI, "force_subscribe": False})
    contact = contact_of(mailmojo)
    assert (contact.on_list(7), contact.on_list(8), contact.tags) == ("a", "a", ("vip",))


@pytest.mark.parametrize("status", ["u", "b", "d"])
async def test_rule_5_who_left_stays_so_without_force_subscribe(mailmojo: SandboxClient, status: Any) -> None:
    mailmojo.sandbox.world.add_contact(KARI, status=status)
    assert (await mailmojo("POST", SUBSCRIBERS, {"email": KARI, "force_subscribe": False}))[0] == 201
    contact = contact_of(mailmojo)
    assert (contact.status, contact.on_list(7)) == (status, status)
    assert not mailmojo.rules_broken
    assert not mailmojo.sandbox.log.resubscribed()


@pytest.mark.parametrize("force", [{}, {"force_subscribe": True}])
async def test_rule_5_force_subscribe_is_true_unless_said_and_that_is_seen(
    mailmojo: SandboxClient, force: dict[str, bool]
) -> None:
    mailmojo.sandbox.world.add_contact(KARI, status="u")
    await mailmojo("POST", SUBSCRIBERS, {"email": KARI} | force)
    assert contact_of(mailmojo).on_list(7) == "a"
    assert mailmojo.rules_broken == ["force_subscribe is always sent as false"]
    assert mailmojo.sandbox.log.resubscribed() == [KARI]


async def test_subscribers_are_read_removed_and_listed(mailmojo: SandboxClient) -> None:
    for n in range(3):
        mailmojo.sandbox.world.add_contact(f"n{n}@example.no")
    one = SUBSCRIBERS + "n1%40example.no/"
    assert (await mailmojo("GET", one))[1]["subscribed"] is True
    assert (await mailmojo("DELETE", one))[0] == 200
    assert (await mailmojo("GET", one))[0] == 404
    assert [contact["email"] for contact in (await mailmojo("GET", SUBSCRIBERS))[1]] == [
        "n0@example.no",
        "n2@example.no",
    ]
    assert len((await mailmojo("GET", SUBSCRIBERS + "?limit=1"))[1]) == 1
    assert [contact["email"] for contact in (await mailmojo("GET", "/v1/lists/7/unsubscribed/"))[1]] == [
        "n1@example.no"
    ]
    assert not mailmojo.rules_broken
    assert (await mailmojo("GET", SUBSCRIBERS + "?page=2"))[0] == 400
    assert mailmojo.rules_broken


async def test_lists_are_known_by_number_and_an_unknown_one_is_404_without_violation(mailmojo: SandboxClient) -> None:
    assert [one["id"] for one in (await mailmojo("GET", "/v1/lists/"))[1]] == [7, 8]
    assert (await mailmojo("GET", "/v1/lists/7/"))[1]["id"] == 7
    for target in ("/v1/lists/99/", "/v1/lists/news/", "/v1/lists/99/subscribers/"):
        assert (await mailmojo("GET", target))[0] == 404
    assert (await mailmojo("POST", "/v1/lists/99/subscribers/", {"email": KARI, "force_subscribe": False}))[0] == 404
    assert not mailmojo.rules_broken


async def test_an_import_is_csv_and_counted(mailmojo: SandboxClient) -> None:
    csv = {"headers": mailmojo.headers | {"Content-Type": "text/csv"}, "data": "email,phone\na@x.no,1\nb@x.no,2\n"}
    assert await mailmojo("POST", SUBSCRIBERS + "import/", **csv) == (200, {"num_contacts": 2})


# Account fields and the Swagger document


async def test_account_fields_are_listed_and_created_once(mailmojo: SandboxClient) -> None:
    field = {"name": "Will Expire", "type": "date"}
    assert await mailmojo("POST", "/v1/fields/", field) == (201, field)
    assert field in (await mailmojo("GET", "/v1/fields/"))[1]
    assert (await mailmojo("POST", "/v1/fields/", field))[0] == 400
    assert not mailmojo.rules_broken
    assert (await mailmojo("POST", "/v1/fields/", field | {"type": "varchar"}))[0] == 400
    assert mailmojo.rules_broken


@under("fields=elsewhere", "swagger_base=v1")
async def test_account_fields_elsewhere_are_told_by_the_swagger_document(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("GET", "/v1/fields/"))[0] == 404
    _, document = await mailmojo("GET", "/", headers={})
    (path,) = [path for path, calls in document["paths"].items() if "field" in path and calls.keys() >= {"get", "post"}]
    assert document["swagger"] == "2.0"
    assert (await mailmojo("GET", document["basePath"] + path))[0] == 200
    assert not mailmojo.rules_broken


@under("fields=none", "fields_missing=405", "swagger=token")
async def test_account_fields_may_be_nowhere(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("POST", "/v1/fields/", {"name": "x", "type": "text"}))[0] == 405
    assert (await mailmojo("GET", "/", headers={}))[0] == 401
    _, document = await mailmojo("GET", "/")
    assert not [path for path, calls in document["paths"].items() if "field" in path and "post" in calls]


# Unknowns: one test per switch


@pytest.mark.parametrize(
    ("answers", "left"),
    [(Answers(custom="merge"), {"Shoe size": 44, "x": "y"}), (Answers(custom="replace"), {"x": "y"})],
)
async def test_patch_merges_or_replaces_custom(mailmojo: SandboxClient, left: dict[str, Any]) -> None:
    mailmojo.sandbox.world.add_contact(KARI, custom={"Shoe size": 44})
    await mailmojo("PATCH", AT_KARI, {"email": KARI, "custom": {"x": "y"}})
    assert contact_of(mailmojo).custom == left


@pytest.mark.parametrize(("answers", "right", "wrong"), [(Answers(), None, ""), (Answers(clear="blank"), "", None)])
async def test_clearing_takes_null_or_a_blank(mailmojo: SandboxClient, right: str | None, wrong: Any) -> None:
    mailmojo.sandbox.world.add_contact(KARI, custom={"Will Cancel At": "2026-01-01"})
    for value, status in ((wrong, 400), (right, 200)):
        body = {"email": KARI, "custom": {"Will Cancel At": value}}
        assert (await mailmojo("PATCH", AT_KARI, body))[0] == status
    assert contact_of(mailmojo).custom == {}
    assert not mailmojo.rules_broken


@pytest.mark.parametrize(
    ("answers", "phone", "size"),
    [(Answers(), None, None), (Answers(empty="blank"), "", ""), (Answers(empty="absent"), "gone", "gone")],
)
async def test_no_value_comes_back_in_three_ways(mailmojo: SandboxClient, phone: str | None, size: str | None) -> None:
    mailmojo.sandbox.world.add_contact(KARI, custom={"Sesamy User ID": "u"})
    _, contact = await mailmojo("GET", AT_KARI)
    assert (contact.get("phone", "gone"), contact["custom"].get("Shoe size", "gone")) == (phone, size)


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        (Answers(), ("u", "u")),
        (Answers(status="contact"), ("u", "a")),
        (Answers(status="association"), ("a", "u")),
    ],
)
async def test_who_left_shows_on_the_contact_or_on_the_association(
    mailmojo: SandboxClient, shown: tuple[str, str]
) -> None:
    mailmojo.sandbox.world.add_contact(KARI, status="u")
    _, contact = await mailmojo("GET", AT_KARI)
    assert (contact["status"], contact["list_associations"][0]["status"]) == shown


@under("deleted=hidden")
async def test_a_deleted_contact_may_be_404_and_yet_stays_deleted(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, status="d")
    assert (await mailmojo("GET", AT_KARI))[0] == 404
    await mailmojo("POST", SUBSCRIBERS, {"email": KARI, "force_subscribe": False})
    assert contact_of(mailmojo).status == "d"


@pytest.mark.parametrize(
    ("answers", "first_name", "tags"),
    [
        (Answers(), "Kari", ("new",)),
        (Answers(existing="replace"), "", ("new",)),
        (Answers(existing="leave"), "Kari", ("old",)),
    ],
)
async def test_post_on_an_existing_contact_merges_replaces_or_leaves(
    mailmojo: SandboxClient, first_name: str, tags: Any
) -> None:
    mailmojo.sandbox.world.add_contact(KARI, first_name="Kari", tags=["old"], lists={})
    await mailmojo("POST", SUBSCRIBERS, {"email": KARI, "tags": ["new"], "force_subscribe": False})
    contact = contact_of(mailmojo)
    assert (contact.first_name, contact.tags, contact.on_list(7)) == (first_name, tags, "a")


@pytest.mark.parametrize(("answers", "has"), [(Answers(), False), (Answers(patch_echo="contact"), True)])
async def test_patch_echoes_a_base_contact_or_a_contact(mailmojo: SandboxClient, has: bool) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    _, echo = await mailmojo("PATCH", AT_KARI, {"email": KARI})
    assert ("list_associations" in echo) is has


@pytest.mark.parametrize(("answers", "status"), [(Answers.of([f"refusal={n}"]), n) for n in (400, 409, 422)])
async def test_an_address_that_is_none_is_refused_without_violation(mailmojo: SandboxClient, status: Any) -> None:
    assert (await mailmojo("POST", SUBSCRIBERS, {"email": "kari", "force_subscribe": False}))[0] == status
    assert not mailmojo.rules_broken


@pytest.mark.parametrize(("answers", "status"), [(Answers(), 200), (Answers(unregistered="refuse"), 400)])
async def test_a_key_that_is_no_account_field_is_taken_or_refused(mailmojo: SandboxClient, status: Any) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI, "custom": {"new": "x"}}))[0] == status
    assert not mailmojo.rules_broken


@pytest.mark.parametrize(("answers", "shape"), [(Answers(), list), (Answers(fields_list="data"), dict)])
async def test_fields_come_bare_or_wrapped(mailmojo: SandboxClient, shape: type) -> None:
    assert isinstance((await mailmojo("GET", "/v1/fields/"))[1], shape)


@pytest.mark.parametrize(
    ("answers", "status", "found"),
    [
        (Answers(), 200, ["n1", "n2"]),
        (Answers(contacts_offset="ignored"), 200, ["n0", "n1"]),
        (Answers(contacts_offset="refused", refusal="422"), 422, None),
    ],
)
async def test_an_offset_is_taken_ignored_or_refused(mailmojo: SandboxClient, status: int, found: Any) -> None:
    for n in range(3):
        mailmojo.sandbox.world.add_contact(f"n{n}@example.no")
    answer, contacts = await mailmojo("GET", SUBSCRIBERS + "?limit=2&offset=1")
    names = [contact["email"].partition("@")[0] for contact in contacts] if answer == 200 else None
    assert (answer, names) == (status, found)
    assert not mailmojo.rules_broken


@pytest.mark.parametrize(("answers", "count"), [(Answers(), 103), (Answers(contacts_cap="100"), 100)])
async def test_a_list_of_contacts_may_be_cut(mailmojo: SandboxClient, count: int) -> None:
    for n in range(103):
        mailmojo.sandbox.world.add_contact(f"n{n}@example.no")
    assert len((await mailmojo("GET", SUBSCRIBERS + "?limit=200"))[1]) == count
    assert len((await mailmojo("GET", SUBSCRIBERS))[1]) == count


@under("listed=address", "contact_lists=data")
async def test_a_list_of_contacts_may_show_addresses_alone_and_be_wrapped(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI, tags=["vip"], custom={"Shoe size": 44})
    assert await mailmojo("GET", SUBSCRIBERS) == (200, {"data": [{"email": KARI}]})


@under("unsubscribed=404")
async def test_who_unsubscribed_may_not_be_listed(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("GET", "/v1/lists/7/unsubscribed/"))[0] == 404
    assert not mailmojo.rules_broken


@under("field_conflict=409")
async def test_a_field_that_exists_may_be_409(mailmojo: SandboxClient) -> None:
    assert (await mailmojo("POST", "/v1/fields/", {"name": "Shoe size", "type": "text"}))[0] == 409


@under("address=lower")
async def test_an_address_may_come_back_in_lower_case(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact("Kari@Example.no")
    assert (await mailmojo("GET", AT_KARI))[1]["email"] == KARI


@pytest.mark.parametrize("answers", [Answers.of([f"errors={one}"]) for one in Answers.choices()["errors"]])
async def test_an_errors_text_stands_where_the_answers_say(mailmojo: SandboxClient, answers: Answers) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    _, body = await mailmojo("POST", SUBSCRIBERS, {"email": "kari", "force_subscribe": False})
    if answers.errors == "text":
        assert "not a valid address" in mailmojo.answer_text
    else:
        assert "not a valid address" in str(body[answers.errors])


@pytest.mark.parametrize(
    ("answers", "kind"), [(Answers(not_found="html"), "text/html"), (Answers(), "application/json")]
)
async def test_a_404_may_be_html(mailmojo: SandboxClient, kind: str) -> None:
    await mailmojo("GET", AT_KARI)
    assert mailmojo.answer_type == kind


@under("not_found=empty")
async def test_a_404_may_be_empty(mailmojo: SandboxClient) -> None:
    await mailmojo("GET", AT_KARI)
    assert mailmojo.answer_text == ""
