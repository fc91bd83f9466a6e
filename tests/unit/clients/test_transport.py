import asyncio
from email.utils import formatdate
from importlib.metadata import version
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from consumer.clients.errors import ApiError, Rejected, Throttled, TooLarge, Unauthorized, Unavailable
from consumer.clients.http import Answer
from consumer.clients.transport import Transport, segment
from tests.unit.clients.scripted import CUT, EPOCH, HANG, Bench, Reply, Token, bench, in_turn

pytestmark = pytest.mark.usefixtures("both_clients")


async def send(transport: Transport, method: str = "GET", path: str = "/x/", **options: object) -> Answer:
    async with transport.turn(1) as turn:
        return await turn.request(method, path, operation="op", **options)  # type: ignore[arg-type]


def counted(it: Bench, status: str) -> float | None:
    labels = {"api": "mailmojo", "operation": "op", "status": status}
    return it.metrics.registry.get_sample_value("sesamy_mailmojo_api_requests_total", labels)


async def test_a_request_carries_token_body_and_the_program_s_name() -> None:
    async with bench(lambda _: Reply(201, {"a": 1}, {"X-Y": "z"})) as it:
        answer = await send(it.transport, "POST", "/v1/", json={"tags": ["blå"]}, params={"q": "a+b|c", "limit": 1})
    (request,) = it.server.arrived
    assert (request.method, request.path) == ("POST", "/v1/?q=a%2Bb%7Cc&limit=1")
    assert request.headers["Authorization"] == "Bearer t"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"sesamy-mailmojo/{version('sesamy-mailmojo')}"
    assert request.json == {"tags": ["blå"]}
    assert (answer.status, answer.body, answer.headers["x-y"]) == (201, b'{"a": 1}', "z")
    assert counted(it, "201") == 1


@pytest.mark.parametrize(
    ("text", "on_the_wire"),
    [
        ("a+b@x.no", "a%2Bb%40x.no"),
        ("email|84c", "email%7C84c"),
        ("a/b", "a%2Fb"),
        ("%2e", "%252e"),
        ("..", ".."),
        ("ås@x.no", "%C3%A5s%40x.no"),
        ("a?b#c", "a%3Fb%23c"),
    ],
)
async def test_a_path_segment_arrives_as_it_was_encoded(text: str, on_the_wire: str) -> None:
    async with bench(lambda _: Reply()) as it:
        await send(it.transport, path=f"/v1/contacts/{segment(text)}/")
    assert it.server.arrived[0].path == f"/v1/contacts/{on_the_wire}/"


@given(st.text(st.characters(max_codepoint=0x250)))
def test_a_segment_is_what_the_standard_library_makes_of_it(text: str) -> None:
    assert segment(text) == quote(text, safe="")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "POST"])
async def test_a_cut_connection_sends_nothing_a_second_time(method: str) -> None:
    async with bench(in_turn(Reply(), CUT)) as it:
        await send(it.transport)  # so that the next request goes out on a connection that is open already
        with pytest.raises(Unavailable, match="no answer: ServerDisconnectedError"):
            await send(it.transport, method, json={} if method != "GET" else None)
    assert len(it.server.arrived) == 2
    assert counted(it, "error") == 1


async def test_no_answer_in_time_is_unavailable() -> None:
    async with bench(lambda _: HANG, patience=0.05) as it:
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
            await send(it.transport)


async def test_the_session_bounds_no_request() -> None:
    """Its time-out would be rounded up to a whole second."""
    async with bench(lambda _: Reply(), patience=5.0) as it:
        assert it.session.timeout.total is None
        assert it.transport.http.timeout == 5.0


async def test_a_server_that_is_not_there_is_unavailable_and_not_named() -> None:
    async with bench(lambda _: Reply()) as it:
        address = "http://127.0.0.1:1"
        http = type(it.transport.http)(URL(address), it.session, timeout=1)
        nowhere = Transport("mailmojo", address, http, it.gate, Token("Bearer t"), metrics=it.metrics)
        with pytest.raises(Unavailable, match="Connect") as caught:
            await send(nowhere, path="/v1/contacts/a%40x.no/")
    assert "x.no" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_an_answer_without_end_is_cut_off() -> None:
    async with bench(lambda _: Reply(200, b"x" * (2 * 1024 * 1024))) as it:
        with pytest.raises(TooLarge, match="HTTP 200: a body of 2097152 bytes, of which 1048576 are read"):
            await send(it.transport)


async def test_a_body_that_breaks_off_is_unavailable() -> None:
    async with bench(lambda _: Reply(200, b"no gzip", {"Content-Encoding": "gzip"})) as it:
        with pytest.raises(Unavailable):
            await send(it.transport)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    async with bench(lambda _: Reply(status, b"", {"Location": "/elsewhere/"})) as it:
        with pytest.raises(Unavailable, match=f"HTTP {status}: a redirect came back"):
            await send(it.transport)
    assert it.server.calls() == [("GET", "/x/")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Unavailable),
        (408, Unavailable),
        (409, Rejected),
        (418, Unavailable),
        (422, Rejected),
        (425, Unavailable),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_a_status_is_one_class_of_error(status: int, kind: type[ApiError]) -> None:
    async with bench(lambda _: Reply(status, {"detail": "no: ola.nordmann@x.no"})) as it:
        with pytest.raises(ApiError) as caught:
            await send(it.transport)
    assert type(caught.value) is kind
    assert str(caught.value) == f"mailmojo op: HTTP {status}: no: o***@x.no"
    assert counted(it, str(status)) == 1


async def test_an_accepted_status_is_an_answer() -> None:
    async with bench(lambda _: Reply(404)) as it:
        assert (await send(it.transport, accept={404})).status == 404


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_renewed_and_a_read_is_sent_once_more(status: int) -> None:
    token = Token("Bearer old", "Bearer new")
    async with bench(in_turn(Reply(status), Reply(200)), credentials=token) as it:
        await send(it.transport)
    assert [r.headers["Authorization"] for r in it.server.arrived] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_renewed_but_a_write_is_not_sent_again(status: int) -> None:
    token = Token("Bearer old", "Bearer new")
    async with bench(in_turn(Reply(status), Reply(200)), credentials=token) as it:
        with pytest.raises(Unauthorized):
            await send(it.transport, "PATCH", json={"a": 1})
        await send(it.transport, "PATCH", json={"a": 1})
    assert [r.headers["Authorization"] for r in it.server.arrived] == ["Bearer old", "Bearer new"]


async def test_credentials_refused_twice_or_without_others_are_unauthorized() -> None:
    for token, requests in ((Token("Bearer a", "Bearer b", "Bearer c"), 2), (Token("Bearer a"), 1)):
        async with bench(lambda _: Reply(401), credentials=token) as it:
            with pytest.raises(Unauthorized):
                await send(it.transport)
        assert len(it.server.arrived) == requests
        assert token.refusals == ["Bearer a"]


@pytest.mark.parametrize("token", ["Bearer a\nb", "Bearer blå"])
async def test_a_token_that_fits_no_header_is_unauthorized_and_not_shown(token: str) -> None:
    async with bench(lambda _: Reply(), credentials=Token(token)) as it:
        with pytest.raises(Unauthorized, match="no header can carry"):
            await send(it.transport)
    assert not it.server.arrived


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(429), 1),
        (Reply(429, b"", {"Retry-After": "7"}), 7),
        (Reply(503, b"", {"Retry-After": "7"}), 7),
        (Reply(429, b"", {"Retry-After": "Tue, 14 Nov 2023 22:14:00 GMT"}), 40),
        (Reply(429, b"", {"Retry-After": "soon"}), 1),
        (Reply(429, {"error": {"code": "rate_limit_exceeded", "retry_after": 60}}), 60),
        (Reply(429, {"retry_after": "12.5"}), 12.5),
        (Reply(503, {"retry_after": 5}), 5),
        (Reply(429, b"", {"Retry-After": "1e9"}), 3600),
        (Reply(429, b"", {"Retry-After": "nan"}), 1),
        (Reply(200, b"", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{EPOCH + 30}"}), 30),
        (Reply(429, b"", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{EPOCH + 30}"}), 30),
        (Reply(200, b"", {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{EPOCH + 30}"}), 0),
        (Reply(200, b"", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{EPOCH - 30}"}), 0),
        (Reply(200, b"", {"X-RateLimit-Remaining": "0"}), 0),
        (Reply(200, b"", {"Retry-After": "7"}), 0),
        (Reply(503), 0),
    ],
)
async def test_a_wait_that_the_api_asks_for_closes_the_gate_for_all(reply: Reply, seconds: float) -> None:
    dated = reply._replace(headers={"Date": "Tue, 14 Nov 2023 22:13:20 GMT", **reply.headers})  # the epoch
    async with bench(lambda _: dated) as it:
        if reply.status == 200:
            await send(it.transport)
        else:
            with pytest.raises(Throttled if seconds else Unavailable):
                await send(it.transport)
        assert it.gate.closed_for() == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize("skew", [-600, 600])
async def test_a14_a_reset_counts_from_the_date_of_the_response(skew: float) -> None:
    theirs = EPOCH + skew
    headers = {"Date": formatdate(theirs), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{theirs + 2:.0f}"}
    async with bench(lambda _: Reply(200, b"", headers)) as it:
        await send(it.transport)
        assert it.gate.closed_for() == pytest.approx(2, abs=0.5)


async def test_every_request_takes_a_permit() -> None:
    async with bench(lambda _: Reply(), burst=3) as it:
        it.gate.set_share(0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(send(it.transport))
            await asyncio.sleep(0)
            assert not task.done()
            it.gate.set_share(1)
        assert task.result().status == 200


async def test_requests_at_once_do_not_wait_for_a_connection() -> None:
    async with bench(lambda _: HANG, patience=0.2) as it:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_ignoring(send(it.transport))) for _ in range(12)]  # 3 each of 4 users
        assert len(it.server.arrived) == 12
        assert all(task.done() for task in tasks)


async def _ignoring(sending: object) -> None:
    with pytest.raises(Unavailable):
        await sending  # type: ignore[misc]
