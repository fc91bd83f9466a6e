import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from consumer import cli
from consumer.backfill import checkpoint
from consumer.backfill.checkpoint import Checkpoint
from consumer.backfill.pages import UserPages
from consumer.backfill.run import Backfill, Steps, kind_of
from consumer.clients.errors import ApiError, Rejected, Throttled, TooLarge, Unauthorized, Unavailable
from consumer.clients.sesamy import ListedUser, SesamyClient
from consumer.failure import Failure
from consumer.settings import SyncSettings, load
from schemas.decoding import Page
from schemas.sesamy import Profile
from tests.unit.clients.scripted import Reply, bench

START = Checkpoint(api_url="a", client_id="c", topic="t")


def users(count: int) -> list[ListedUser]:
    return [ListedUser(f"email|{n}", Profile(id=f"email|{n}", email=f"u{n}@x.no")) for n in range(count)]


class Api:
    """A list of users as one API or another gives it."""

    def __init__(self, count: int, *, cap: int = 10**9, total: bool = False, offsets: bool = True) -> None:
        self.users_there = users(count)
        self.calls: list[tuple[int, int]] = []
        self.failures: list[ApiError] = []
        self._cap, self._total, self._offsets = cap, total, offsets

    async def users(self, offset: int, limit: int) -> Page[ListedUser]:
        self.calls.append((offset, limit))
        if self.failures:
            raise self.failures.pop(0)
        start = offset if self._offsets else 0
        found = self.users_there[start : start + min(limit, self._cap)]
        return Page(found, len(self.users_there) if self._total else None)


def pages_of(api: Api, naps: list[float] | None = None) -> UserPages:
    async def sleep(seconds: float) -> None:
        if naps is not None:
            naps.append(seconds)

    return UserPages(api, SyncSettings(max_attempts=3, retry_base=1, retry_cap=60), sleep)


async def all_of(api: Api, after: int = 0) -> list[str | None]:
    return [user.user_id for page in [page async for page in pages_of(api).after(after)] for user in page.users]


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("cap", [10**9, 100, 77])
@pytest.mark.parametrize("count", [0, 1, 76, 77, 100, 999, 1000, 1001, 2000, 2345])
async def test_every_user_is_listed_once_however_the_api_pages(count: int, cap: int, total: bool) -> None:
    assert await all_of(Api(count, cap=cap, total=total)) == [user.user_id for user in users(count)]


@pytest.mark.parametrize(
    ("api", "calls"),
    [
        (Api(2500, total=True), 3),
        (Api(2500), 3),
        (Api(2500, cap=100, total=True), 25),
        (Api(250, cap=100), 3),  # the last one is shorter than another
        (Api(250), 2),  # might have been cut
    ],
)
async def test_no_call_is_made_for_nothing(api: Api, calls: int) -> None:
    await all_of(api)
    assert len(api.calls) == calls


@pytest.mark.parametrize("count", [400, 1000, 1500])
async def test_a1_users_behind_an_offset_that_is_ignored_are_a_failure_and_not_the_end(count: int) -> None:
    with pytest.raises(Unavailable, match="list_users: HTTP 200: pages repeat: the API ignores the offset"):
        await all_of(Api(count, offsets=False))


async def test_an_api_that_does_not_page_at_all_is_asked_once() -> None:
    class Whole(Api):
        async def users(self, offset: int, limit: int) -> Page[ListedUser]:
            self.calls.append((offset, limit))
            return Page(self.users_there, None)

    api = Whole(3000)
    assert len(await all_of(api)) == 3000
    assert api.calls == [(0, 1000)]


async def test_a_backfill_goes_on_after_those_that_are_done() -> None:
    assert await all_of(Api(1200), after=1150) == [f"email|{n}" for n in range(1150, 1200)]


async def test_a_limit_that_is_refused_is_lowered_once() -> None:
    api = Api(150, total=True)
    api.failures = [Rejected("sesamy", "list_users", 400)]
    assert len(await all_of(api)) == 150
    assert api.calls == [(0, 1000), (0, 100), (100, 100)]


async def test_a_limit_whose_answer_is_too_large_is_lowered_and_the_list_still_read_to_its_end() -> None:
    class Growing(Api):
        async def users(self, offset: int, limit: int) -> Page[ListedUser]:
            if offset and limit == 1000:
                raise TooLarge("sesamy", "list_users", 200)
            return await super().users(offset, limit)

    assert len(await all_of(Growing(1250))) == 1250


async def test_what_passes_is_tried_again_and_what_does_not_is_told() -> None:
    api, naps = Api(5, total=True), list[float]()
    api.failures = [Throttled("sesamy", "list_users", 429), Unavailable("sesamy", "list_users", 500)]
    assert len([page async for page in pages_of(api, naps).after(0)]) == 1
    assert naps == [1, 2]
    for failures in ([Unavailable("sesamy", "list_users")] * 3, [Rejected("sesamy", "list_users", 400)] * 2):
        api.failures = list(failures)
        with pytest.raises(type(failures[0])):
            await all_of(api)
        assert api.failures == []


@pytest.mark.parametrize(
    ("user", "kind"),
    [
        (ListedUser("email|1", Profile(email="a@x.no")), "requested"),
        (ListedUser("email|1", None), "requested"),
        (ListedUser("email|1", Profile(email=" ")), "without_email"),
        (ListedUser("email|1", Profile()), "without_email"),
        (ListedUser("email|1", Profile(email="a@x.no", is_guest=True)), "guest"),
        (ListedUser("guest|1", Profile(email="a@x.no")), "guest"),
        (ListedUser(None, Profile(email="a@x.no")), "unusable"),
        (ListedUser("..", Profile(email="a@x.no")), "unusable"),
        (ListedUser("u" * 513, Profile(email="a@x.no")), "unusable"),
        (ListedUser("u" * 512, Profile(email="a@x.no")), "requested"),
    ],
)
def test_kinds_of_users(user: ListedUser, kind: str) -> None:
    assert kind_of(user, ("guest|",)) == kind


async def test_a_list_with_odd_profiles_is_read() -> None:
    body = [{"userId": "a", "email": "a@x.no"}, {"id": 7, "email": ""}, {"id": "odd", "email": {"work": 1}}, {}]
    async with bench(lambda _: Reply(200, {"data": body, "meta": {"total": 24}}), api="sesamy") as it:
        page = await SesamyClient(it.transport).users(20, 10)
    assert it.server.calls() == [("GET", "/management/users?limit=10&offset=20")]
    assert page.total == 24
    assert [(user.user_id, user.profile is None) for user in page.items] == [
        ("a", False),
        ("7", False),
        ("odd", True),
        (None, False),
    ]


class Outside:
    """The topic and the checkpoint. `dies_at` counts steps of the backfill until a kill."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.saved = START
        self.waiting = [0]
        self.naps = 0
        self.dies_at = -1

    def steps(self) -> Steps:
        async def request(user_ids: Sequence[str]) -> None:
            self._live()
            self.asked.extend(user_ids)
            self._live()

        async def save(done: Checkpoint) -> None:
            self._live()
            self.saved = done

        async def backlog() -> int:
            return self.waiting.pop(0) if len(self.waiting) > 1 else self.waiting[0]

        async def sleep(_seconds: float) -> None:
            self.naps += 1

        return Steps(request, save, backlog, sleep)

    def _live(self) -> None:
        self.dies_at -= 1
        if self.dies_at == 0:
            raise asyncio.CancelledError


def backfill_of(api: Api, outside: Outside, **more: Any) -> Backfill:
    return Backfill(
        pages_of(api), outside.steps(), outside.saved, guest_prefixes=("guest|",), **({"ahead": 1000} | more)
    )


@pytest.mark.parametrize("total", [False, True])
async def test_killed_at_any_moment_it_goes_on_and_asks_for_hardly_anybody_twice(total: bool) -> None:
    api, outside = Api(2000, total=total, cap=700), Outside()
    kills = 0
    while True:
        outside.dies_at = 101 + kills * 7
        backfill = backfill_of(api, outside)
        try:
            await backfill.run()
            break
        except asyncio.CancelledError:
            kills += 1
    assert kills > 3
    counted = Counter(outside.asked)
    assert counted.keys() == {user.user_id for user in users(2000)}
    assert len(outside.asked) - 2000 <= kills * 2000 // 400
    assert backfill.complete
    assert backfill.counts == {"requested": 2000}


async def test_the_limit_counts_requests_and_the_next_run_goes_on_behind_them() -> None:
    api, outside = Api(30, total=True), Outside()
    api.users_there[3] = ListedUser("guest|1", Profile(email="g@x.no"))
    for _ in range(2):
        backfill = backfill_of(api, outside, limit=10)
        await backfill.run()
        assert (backfill.requested, backfill.complete) == (10, False)
    backfill = backfill_of(api, outside)
    await backfill.run()
    assert outside.asked == [str(user.user_id) for user in api.users_there if user.user_id != "guest|1"]
    assert (backfill.complete, backfill.offset, backfill.counts) == (True, 30, {"requested": 29, "guest": 1})


async def test_it_keeps_its_distance_from_the_service() -> None:
    api, outside = Api(5, total=True), Outside()
    outside.waiting = [2000, 1000, 999]
    backfill = backfill_of(api, outside)
    await backfill.run()
    assert (outside.naps, len(outside.asked), backfill.waiting) == (2, 5, 999 + 5)


SETTINGS = load({"SESAMY_CLIENT_ID": "c", "SESAMY_CLIENT_SECRET": "s"}, needs={"sesamy"})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    assert checkpoint.load(file, SETTINGS) == checkpoint.first(SETTINGS)
    done = Checkpoint(
        api_url=SETTINGS.sesamy.api_url, client_id="c", topic="sesamy.events", offset=7, counts={"requested": 6}
    )
    checkpoint.save(file, done)
    checkpoint.save(file, done)
    assert checkpoint.load(file, SETTINGS) == done
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"offset": 3, "more": 1}', "\ufffd"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(Failure, match="is no checkpoint; delete it"):
        checkpoint.load(file, SETTINGS)


def test_a_checkpoint_of_another_topic_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    checkpoint.save(file, checkpoint.first(load({"KAFKA_TOPIC": "other"}, needs=())))
    with pytest.raises(Failure, match="of another client id"):
        checkpoint.load(file, SETTINGS)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"client_id": "c"}))
    with pytest.raises(Failure, match="of another topic"):
        checkpoint.load(file, SETTINGS)


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"--checkpoint .*No such file"):
        checkpoint.save(tmp_path / "no" / "c.json", START)


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--ahead", "-1"], ["now"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backfill", *arguments]) == 2
    assert "--help" in capsys.readouterr().err


async def test_refused_credentials_are_not_asked_again_and_again() -> None:
    api = Api(5)
    api.failures = [Unauthorized("sesamy", "list_users", 401)] * 2
    with pytest.raises(Unauthorized):
        await all_of(api)
    assert len(api.calls) == 1


@pytest.mark.parametrize("link", ["b", "b.new"])
def test_p8_a_checkpoint_that_is_a_symbolic_link_is_refused_before_anything_is_done(link: str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / link).symlink_to(target)
    settings = load({}, needs=())
    with pytest.raises(Failure, match=f"--checkpoint {tmp_path}/b: {link} is a symbolic link"):
        checkpoint.load(tmp_path / "b", settings)
    with pytest.raises(Failure, match="symbolic link"):
        checkpoint.save(tmp_path / "b", checkpoint.first(settings))
    assert target.read_text() == "precious"
