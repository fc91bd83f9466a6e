import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer.clients.account_fields import AccountFields, Look
from consumer.clients.errors import ApiError, Throttled, Unauthorized, Unavailable
from consumer.clients.swagger import fields_path
from consumer.clients.transport import Turn
from schemas.mailmojo import AccountField
from tests.unit.clients.scripted import Arrived, Bench, Reply, bench

WANTED = (AccountField(name="Sesamy User ID", type="text"), AccountField(name="Issues Remaining", type="number"))


class Account:
    """An account with fields at one path, and what else it answers."""

    def __init__(self, *names: str, path: str = "/v1/fields/", document: Any = None, **replies: Reply) -> None:
        self.names = list(names)
        self.path = path
        self.document = document
        self.replies = replies

    def __call__(self, request: Arrived) -> Reply:
        if request.path == "/":
            return Reply(404) if self.document is None else Reply(200, self.document)
        if request.path != self.path:
            return self.replies.get("elsewhere", Reply(404))
        if request.method in self.replies:
            return self.replies[request.method]
        if request.method == "POST":
            self.names.append(request.json["name"])
            return Reply(201, request.json)
        return Reply(200, [{"name": name, "type": "text"} for name in self.names])


def fields_of(it: Bench) -> AccountFields:
    return AccountFields(it.transport, "/v1/fields/", WANTED, it.metrics)


def degraded(it: Bench) -> float | None:
    return it.metrics.registry.get_sample_value("sesamy_mailmojo_account_fields_degraded")


def described(path: str, *methods: str) -> dict[str, Any]:
    return {
        "swagger": "2.0",
        "host": "evil.example",
        "basePath": "/v1",
        "paths": {path: {method: {} for method in methods}},
    }


async def test_only_missing_fields_are_created_and_only_once() -> None:
    account = Account(" Sesamy User ID ", "issues remaining", "Other")
    async with bench(account) as it:
        fields = fields_of(it)
        assert fields.state == {"status": "unknown", "reason": None}
        await fields.ensure()
        await fields.ensure()
    assert [request.json for request in it.server.arrived if request.body] == [
        {"name": "Issues Remaining", "type": "number"}
    ]
    assert len(it.server.arrived) == 2
    assert fields.state == {"status": "complete", "reason": None}
    assert degraded(it) == 0


async def test_a_wrapped_list_is_read_too() -> None:
    names = {"data": [{"name": field.name} for field in WANTED]}
    async with bench(Account(GET=Reply(200, names))) as it:
        assert await fields_of(it).look() == Look()


async def test_many_syncs_at_once_look_once() -> None:
    async with bench(Account()) as it:
        fields = fields_of(it)
        await asyncio.gather(*(fields.ensure() for _ in range(10)))
    assert [method for method, _ in it.server.calls()] == ["GET", "POST", "POST"]


@pytest.mark.parametrize("status", [400, 409])
async def test_a_field_that_another_instance_made_first_is_fine(status: int) -> None:
    account = Account()

    def race(request: Arrived) -> Reply:
        if request.method == "POST":
            account.names.append(request.json["name"])
            return Reply(status, {"detail": "exists"})
        return account(request)

    async with bench(race) as it:
        fields = fields_of(it)
        await fields.ensure()
    assert fields.status == "complete"


async def test_fields_that_mailmojo_refuses_are_named_and_the_service_goes_on() -> None:
    async with bench(Account("Issues Remaining", POST=Reply(400, {"detail": "too many"}))) as it:
        fields = fields_of(it)
        await fields.ensure()
    assert fields.status == "degraded"
    assert fields.reason == "mailmojo create_field: HTTP 400: too many; missing: Sesamy User ID"


@pytest.mark.parametrize("elsewhere", [404, 405, 302])
async def test_the_path_is_taken_from_mailmojo_s_description_when_the_setting_is_wrong(elsewhere: int) -> None:
    document = described("/account/fields/", "get", "post")
    account = Account(path="/v1/account/fields/", document=document, elsewhere=Reply(elsewhere))
    async with bench(account) as it:
        fields = fields_of(it)
        await fields.ensure()
    assert account.names == [field.name for field in WANTED]
    assert fields.status == "complete"
    assert it.server.calls()[:3] == [("GET", "/v1/fields/"), ("GET", "/"), ("GET", "/v1/account/fields/")]


@pytest.mark.parametrize(
    "account",
    [
        Account(path="/nowhere/"),
        Account(path="/nowhere/", document=b"<html>"),
        Account(path="/nowhere/", document=described("/contacts/", "get", "post")),
        Account(path="/nowhere/", document=described("/fields/", "get", "post")),
        Account(GET=Reply(200, b"<html>")),
        Account(GET=Reply(400)),
        Account(POST=Reply(405)),
    ],
)
async def test_without_a_usable_endpoint_one_warning_and_on_with_the_syncs(account: Account) -> None:
    async with bench(account) as it:
        fields = fields_of(it)
        with capture_logs() as logs:
            await fields.ensure()
            requests = len(it.server.arrived)
            await fields.ensure()
        assert len(it.server.arrived) == requests
    assert fields.status == "degraded"
    assert fields.reason
    assert [(log["event"], log["log_level"]) for log in logs] == [("account_fields.degraded", "warning")]
    assert degraded(it) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"data": None},
        {"fields": [], "error": "internal"},
        {"data": [], "meta": {"total": 13}},
        {"data": [{"name": "Other"}], "total": 13},
        {"data": [], "fields": [{"name": "Other"}]},
        [None],
        {"error": {"code": "internal"}},
    ],
)
async def test_a1_a_list_of_fields_that_contradicts_itself_creates_nothing_and_is_asked_for_again(body: Any) -> None:
    account = Account(GET=Reply(200, body))
    async with bench(account) as it:
        fields = fields_of(it)
        with pytest.raises(Unavailable, match="list_fields"):
            await fields.ensure()
        assert {method for method, _ in it.server.calls()} == {"GET"}
        account.replies = {}
        await fields.ensure()
    assert fields.status == "complete"


@pytest.mark.parametrize("wrapper", ["data", "items", "fields", "custom_fields"])
async def test_fields_may_be_wrapped_and_have_pages(wrapper: str) -> None:
    names = [{"name": field.name} for field in WANTED]

    def script(request: Arrived) -> Reply:
        offset = int(request.path.partition("offset=")[2] or 0)
        return Reply(200, {wrapper: names[offset : offset + 1], "total": len(names)})

    async with bench(script) as it:
        assert await fields_of(it).look() == Look()
    assert [path for _, path in it.server.calls()] == ["/v1/fields/", "/v1/fields/?offset=1"]


@pytest.mark.parametrize("reply", [Reply(200, b"<html>"), Reply(404, b"<html>"), Reply(405, b"nothing here")])
async def test_a1_what_stands_in_front_of_the_api_says_nothing_about_the_path_of_fields(reply: Reply) -> None:
    async def prove(_: Turn) -> None:
        raise Unavailable("mailmojo", "get_list", 200, "an unreadable answer")

    async with bench(Account(GET=reply)) as it:
        fields = AccountFields(it.transport, "/v1/fields/", WANTED, it.metrics, prove=prove)
        with pytest.raises(Unavailable, match="get_list"):
            await fields.ensure()
    assert fields.status == "unknown"


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", {"name": "Another"}, {"ok": True}])
@pytest.mark.parametrize("applied", [True, False])
async def test_a9_a_field_counts_as_created_only_if_the_list_shows_it(body: Any, applied: bool) -> None:
    account = Account("Issues Remaining")

    def script(request: Arrived) -> Reply:
        if request.method == "GET":
            return account(request)
        if applied:
            account.names.append(request.json["name"])
        return Reply(200, body)

    async with bench(script) as it:
        fields = fields_of(it)
        if applied:
            await fields.ensure()
        else:
            with pytest.raises(Unavailable, match=r"create_field: HTTP 200: accepted.*not applied: Sesamy User ID"):
                await fields.ensure()
        assert fields.status == ("complete" if applied else "unknown")
        assert [method for method, _ in it.server.calls()] == ["GET", "POST", "GET"]


async def test_fields_that_there_was_no_way_to_are_looked_for_again() -> None:
    account, now = Account(GET=Reply(404)), 0.0
    async with bench(account) as it:
        fields = AccountFields(it.transport, "/v1/fields/", WANTED, it.metrics, clock=lambda: now)
        await fields.ensure()
        account.replies = {}
        await fields.ensure()
        assert fields.status == "degraded"
        now = 601.0
        await fields.ensure()
        assert (fields.state, degraded(it)) == ({"status": "complete", "reason": None}, 0)


async def test_a_description_that_needs_other_credentials_is_no_fault_of_ours() -> None:
    def script(request: Arrived) -> Reply:
        return Reply(401 if request.path == "/" else 404)

    async with bench(script) as it:
        fields = fields_of(it)
        await fields.ensure()
    assert fields.status == "degraded"


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Unauthorized), (429, Throttled)])
async def test_what_may_pass_is_raised_and_tried_again(status: int, kind: type[ApiError]) -> None:
    account = Account(GET=Reply(status, b"", {"Retry-After": "0.01"}))
    async with bench(account) as it:
        fields = fields_of(it)
        with pytest.raises(kind):
            await fields.ensure()
        assert fields.state["status"] == "unknown"
        account.replies = {}
        await fields.ensure()
        assert fields.state["status"] == "complete"


async def test_a_failure_half_way_creates_nothing_twice() -> None:
    account = Account()
    posts: list[Any] = []

    def script(request: Arrived) -> Reply:
        if request.method == "POST":
            posts.append(request.json["name"])
            if len(posts) == 2:
                return Reply(500)
        return account(request)

    async with bench(script) as it:
        fields = fields_of(it)
        with pytest.raises(Unavailable):
            await fields.ensure()
        await fields.ensure()
    assert posts == ["Sesamy User ID", "Issues Remaining", "Issues Remaining"]


async def test_a_look_creates_nothing() -> None:
    async with bench(Account("Issues Remaining")) as it:
        assert await fields_of(it).look() == Look(missing=WANTED[:1])
    assert [method for method, _ in it.server.calls()] == ["GET"]
    async with bench(Account(path="/nowhere/")) as it:
        look = await fields_of(it).look()
        assert look.degraded is not None
        assert look.degraded.startswith("there is no /v1/fields/")
        assert degraded(it) == 0


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (described("/custom-fields/", "get", "post"), "/v1/custom-fields/"),
        ({"paths": {"/v1/Fields/": {"get": {}, "post": {}}}}, "/v1/Fields/"),
        ({"basePath": "/", "paths": {"/fields/": {"get": {}, "post": {}}}}, "/fields/"),
        ({"paths": {"/fields/": {"get": {}, "post": {}}, "/x/fields/": {"get": {}, "post": {}}}}, "/fields/"),
        (described("/fields/", "get"), None),
        (described("/fields/{id}/", "get", "post"), None),
        (described("/contacts/", "get", "post"), None),
        (described(".evil.example/fields/", "get", "post"), "/v1.evil.example/fields/"),
        ({"paths": {".evil.example/fields/": {"get": {}, "post": {}}}}, None),
        ({"basePath": "@evil.example", "paths": {"/fields/": {"get": {}, "post": {}}}}, None),
        ({"paths": {"//evil.example/fields/": {"get": {}, "post": {}}}}, None),
        ({"paths": {"/../fields/": {"get": {}, "post": {}}}}, None),
        ({"paths": {"/fields/?x": {"get": {}, "post": {}}}}, None),
        ({"paths": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_description_is_searched_for_a_path_on_this_host(document: Any, path: str | None) -> None:
    assert fields_path(document) == path
