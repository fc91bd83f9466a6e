import asyncio
import gzip
import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientResponse
from multidict import CIMultiDict

from consumer import cli
from consumer.ingest.endpoint import PATH, RETRY_AFTER, Endpoint
from consumer.ingest.gate import OVERLAP, Gate
from consumer.ingest.metrics import IngestMetrics
from consumer.ingest.run import _probes, limits
from consumer.ingest.store import NotStored, Place, TooLarge, TopicStore
from consumer.ops import admin
from consumer.ops.tracing import Carried
from consumer.ports import serving as ports
from consumer.ports.hosts import Hosts
from consumer.secret import Secret
from consumer.settings import KafkaSettings

SECRET = "open sesame"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = {"X-Webhook-Secret": SECRET, "Content-Type": "application/json"}
EVENT = {"eventType": "contract.1#update", "vendorId": "vendor_123", "userId": "email|84cc", "extra": 1}
BODY = json.dumps(EVENT, indent=3).encode()


class Events:
    """A store in memory, whose broker can be slow or away."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.traces: list[Carried | None] = []
        self.refusal: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Semaphore(0)

    async def put(self, user_id: str, value: bytes, trace: Carried | None) -> Place:
        self.waiting.release()
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        self.stored.append((user_id, value))
        self.traces.append(trace)
        return Place(0, len(self.stored) - 1)


class Served:
    """An endpoint on a socket, and how to call it."""

    def __init__(self, client: aiohttp.ClientSession, events: Events, metrics: IngestMetrics, port: int) -> None:
        self.client = client
        self.port = port
        self.events = events
        self.metrics = metrics

    async def post(self, body: bytes = BODY, headers: Mapping[str, str] = HEADERS, path: str = PATH) -> ClientResponse:
        return await self.client.post(path, data=body, headers=headers)

    def answers(self, status: int) -> float | None:
        return self.metrics.registry.get_sample_value("sesamy_mailmojo_ingest_requests_total", {"status": str(status)})


def endpoint_of(
    events: Events, metrics: IngestMetrics, secret: Secret | None = None, pointer: str | None = None, most: int = 10
) -> Endpoint:
    return Endpoint(
        Gate(secret or Secret(SECRET), clock=lambda: 0.0),
        events,
        metrics,
        header="X-Webhook-Secret",
        max_body=1000,
        value_pointer=pointer,
        clock=lambda: 0.0,
        most_in_flight=most,
    )


@asynccontextmanager
async def serving(secret: Secret | None = None, pointer: str | None = None, most: int = 10) -> AsyncIterator[Served]:
    events, metrics = Events(), IngestMetrics()
    endpoint = endpoint_of(events, metrics, secret, pointer, most)
    async with (
        ports.serve(endpoint.app(), "127.0.0.1", 0, limits(), name="ingest", grace=1.0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield Served(client, events, metrics, port)


async def error(response: ClientResponse) -> str:
    assert response.content_type == "application/json"
    text: str = (await response.json())["error"]
    return text


async def test_an_event_is_stored_as_it_came_under_its_user() -> None:
    async with serving() as served:
        response = await served.post()
        assert (response.status, await response.json()) == (202, {"partition": 0, "offset": 0})
        assert served.events.stored == [("email|84cc", BODY)]
        assert served.answers(202) == 1


async def test_no_answer_is_given_before_the_store_has_the_event() -> None:
    async with serving() as served:
        served.events.gate.clear()
        request = asyncio.create_task(served.post())
        await served.events.waiting.acquire()
        assert served.answers(202) is None
        assert not request.done()
        served.events.gate.set()
        assert (await request).status == 202


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"X-Webhook-Secret": ""},
        {"X-Webhook-Secret": "open"},
        {"X-Webhook-Secret": SECRET + "!"},
        {"X-Webhook-Secret": SECRET.upper()},
        {"X-Webhook-Secret": "ø\xff"},
        {"Authorization": SECRET},
    ],
)
async def test_nothing_is_taken_without_the_secret(given: dict[str, str]) -> None:
    async with serving() as served:
        response = await served.post(headers={"Content-Type": "application/json", **given})
        assert response.status == 401
        assert "X-Webhook-Secret" in await error(response)
        assert SECRET not in await response.text()
        assert served.events.stored == []


async def test_the_header_comes_once() -> None:
    async with serving() as served:
        twice = [*HEADERS.items(), ("X-Webhook-Secret", SECRET)]
        response = await served.client.post(PATH, data=BODY, headers=twice)
        assert response.status == 401


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"eventType": "x", "vendorId": "v"}', "missing required field `userId`"),
        (b'{"eventType": "x", "vendorId": "v", "userId": 7}', "Expected `str`, got `int` - at `$.userId`"),
        (b'{"eventType": "x", "vendorId": "v", "userId": ".."}', "`userId` cannot be a path segment"),
    ],
)
async def test_what_is_no_event_is_refused_with_what_is_wrong(body: bytes, says: str) -> None:
    async with serving() as served:
        response = await served.post(body)
        assert response.status == 400
        assert says in await error(response)
        assert served.events.stored == []


async def test_a_refusal_repeats_nothing_of_the_event() -> None:
    async with serving() as served:
        response = await served.post(b'{"eventType": "x", "vendorId": {"kari@x.no": 1}, "userId": "kari@x.no"}')
        assert response.status == 400
        assert "kari" not in await response.text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATH, 405), ("PUT", PATH, 405), ("DELETE", PATH, 405), ("POST", "/", 404), ("POST", f"{PATH}/1", 404)],
)
async def test_another_method_or_path_is_refused(method: str, path: str, status: int) -> None:
    async with serving() as served:
        response = await served.client.request(method, path, headers=HEADERS, data=BODY)
        assert response.status == status
        assert PATH in await error(response)
        assert response.headers.get("Allow") == ("POST" if status == 405 else None)
        assert (served.events.stored, served.answers(status)) == ([], 1)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
async def test_another_type_is_refused(kind: str) -> None:
    async with serving() as served:
        response = await served.post(headers={**HEADERS, "Content-Type": kind})
        assert (response.status, served.events.stored) == (415, [])


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/cloudevents+json"])
async def test_every_json_type_is_taken(kind: str) -> None:
    async with serving() as served:
        assert (await served.post(headers={**HEADERS, "Content-Type": kind})).status == 202


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_the_limit_is_refused(chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    async with serving() as served:
        body = pieces() if chunked else b" " * 1001
        response = await served.client.post(PATH, data=body, headers=HEADERS)
        assert response.status == 413
        assert "1000 bytes" in await error(response)
        assert (await served.post(BODY.ljust(1000))).status == 202


@pytest.mark.parametrize(("refusal", "status"), [(NotStored(), 503), (TooLarge(), 413)])
async def test_what_is_not_stored_is_never_answered_as_taken(refusal: Exception, status: int) -> None:
    async with serving() as served:
        served.events.refusal = refusal
        response = await served.post()
        assert response.status == status
        assert response.headers.get("Retry-After") == (str(RETRY_AFTER) if status == 503 else None)


async def test_beyond_the_bound_of_waiting_requests_the_sender_is_told_to_come_again() -> None:
    async with serving(most=2) as served:
        served.events.gate.clear()
        waiting = [asyncio.create_task(served.post()) for _ in range(2)]
        for _ in waiting:
            await served.events.waiting.acquire()
        response = await served.post()
        assert (response.status, response.headers["Retry-After"]) == (503, str(RETRY_AFTER))
        served.events.gate.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [202, 202]
        assert (await served.post()).status == 202


async def test_an_event_in_an_envelope_is_found_where_the_service_will_look() -> None:
    body = json.dumps({"data": EVENT}).encode()
    async with serving(pointer="/data") as served:
        assert (await served.post(body)).status == 202
        assert served.events.stored == [("email|84cc", body)]
        assert (await served.post()).status == 400


async def test_a_rotated_secret_is_taken_at_once_and_the_old_one_for_a_while(tmp_path: Path) -> None:
    path, now = tmp_path / "secret", [0.0]
    path.write_text("old\n")
    gate = Gate(Secret(path=path), clock=lambda: now[0])
    path.write_text("new\n")
    assert await gate.admits(["old"])
    assert not await gate.admits(["neither"])
    assert [await gate.admits([secret]) for secret in ("new", "old", "neither", "")] == [True, True, False, False]
    now[0] = OVERLAP
    assert [await gate.admits([secret]) for secret in ("new", "old")] == [True, False]


@pytest.mark.parametrize("content", ["", "\n"])
async def test_a_file_that_is_being_written_changes_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    gate = Gate(Secret(path=path), clock=lambda: 0.0)
    path.write_text(content)
    assert [await gate.admits([secret]) for secret in ("", "old")] == [False, True]


async def test_many_wrong_secrets_at_once_cost_few_reads(tmp_path: Path) -> None:
    reads = 0

    class Counted(Secret):
        async def reload(self) -> bool:
            nonlocal reads
            reads += 1
            await asyncio.sleep(0)
            return False

    gate = Gate(Counted("right"), clock=lambda: 0.0)
    assert not any(await asyncio.gather(*(gate.admits(["wrong"]) for _ in range(100))))
    assert reads <= 2


async def test_it_is_ready_only_while_it_listens() -> None:
    metrics, listening, stopping = IngestMetrics(), asyncio.Event(), asyncio.Event()
    store = TopicStore(KafkaSettings(), metrics)
    probes = _probes(
        endpoint_of(Events(), metrics), store, metrics, Hosts(set()), listening=listening, stopping=stopping
    )
    async with (
        ports.serve(probes, "127.0.0.1", 0, admin.limits(), name="admin", grace=1.0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):

        async def readiness() -> tuple[int, dict[str, str]]:
            response = await client.get("/readyz")
            return response.status, (await response.json())["reasons"]

        assert await readiness() == (503, {"ingest": "does not listen yet"})
        listening.set()
        assert await readiness() == (200, {})
        stopping.set()
        assert await readiness() == (503, {"ingest": "stopping"})


def test_without_a_secret_it_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INGEST_SECRET", "INGEST_SECRET_FILE", "SESAMY_MAILMOJO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["ingest"]) == 2
    assert "INGEST_SECRET (or INGEST_SECRET_FILE)" in capsys.readouterr().err


def test_the_page_lists_what_is_counted() -> None:
    page = (Path(__file__).parents[2] / "docs/feeding-the-topic.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(sesamy_mailmojo_(?:ingest|log)_\w+)` \| (.+) \|$", page, re.MULTILINE))
    counted = {
        family.name + ("_total" if family.type == "counter" else ""): family.documentation
        for family in IngestMetrics().registry.collect()
    }
    assert listed == counted


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([], None),
        ([("traceparent", TRACEPARENT)], Carried(TRACEPARENT.encode(), b"")),
        ([("Traceparent", TRACEPARENT), ("Tracestate", "a=1")], Carried(TRACEPARENT.encode(), b"a=1")),
        (
            [("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("tracestate", "b=2")],
            Carried(TRACEPARENT.encode(), b"a=1,b=2"),
        ),
        ([("traceparent", TRACEPARENT), ("tracestate", "a=" + "1" * 600)], Carried(TRACEPARENT.encode(), b"")),
        ([("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)], None),
        ([("traceparent", "00-none-of-these-01"), ("tracestate", "a=1")], None),
    ],
)
async def test_a_trace_context_is_stored_with_the_event(headers: list[tuple[str, str]], kept: Carried | None) -> None:
    async with serving() as served:
        response = await served.post(headers=CIMultiDict([*HEADERS.items(), *headers]))
        assert response.status == 202
        assert served.events.traces == [kept]


def packed(size: int) -> bytes:
    return gzip.compress(bytes(size), 9)


async def talk(served: Served, *parts: bytes) -> bytes:
    """Send these parts, and return all that the endpoint answers until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        async with asyncio.timeout(60):
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
    finally:
        writer.transport.abort()


def head(*lines: str, secret: str | None = SECRET, target: str = f"POST {PATH}") -> bytes:
    given = [f"X-Webhook-Secret: {secret}"] if secret else []
    return "\r\n".join([f"{target} HTTP/1.1", "Host: events.example.no", *given, *lines, "", ""]).encode()


async def test_p5_a_compressed_body_without_the_secret_is_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "decompressobj", None)  # also aiohttp's own way to do it
    body = packed(400_000_000)
    async with serving() as served:
        for path in (PATH, "/elsewhere"):
            before = time.process_time()
            response = await served.post(body, {"Content-Encoding": "gzip"}, path)
            assert response.status == (401 if path == PATH else 404)
            assert response.headers["Connection"] == "close"
            assert time.process_time() - before < 0.5
        assert served.events.stored == []


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(BODY), "gzip", 202),
        (gzip.compress(BODY), "X-GZIP", 202),
        (zlib.compress(BODY), "deflate", 202),
        (BODY, "identity", 202),
        (packed(50_000), "gzip", 413),
        (packed(400_000), "gzip", 413),
        (BODY, "gzip", 400),
        (gzip.compress(BODY)[:-9], "gzip", 400),
        (gzip.compress(BODY) + b"more", "gzip", 400),
        (b"", "gzip", 400),
        (BODY, "br", 415),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip", 415),
    ],
)
async def test_p5_with_the_secret_a_body_is_decompressed_up_to_the_bound(
    body: bytes, encoding: str, status: int
) -> None:
    async with serving() as served:
        response = await served.post(body, HEADERS | {"Content-Encoding": encoding})
        assert response.status == status
        assert [value for _, value in served.events.stored] == ([BODY] if status == 202 else [])


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("Expect: 100-continue", "Content-Length: 9", secret=None), b"401"),
        (head("Expect: 100-continue", "Content-Length: 9", target="POST /elsewhere"), b"404"),
        (head("Expect: 100-continue", "Content-Length: 9", target=f"PUT {PATH}"), b"405"),
        (head("Expect: 100-continue", "Content-Length: 999999"), b"413"),
        (head("Expect: 100-continue", "Content-Length: 9", "Content-Type: text/xml"), b"415"),
        (head("Transfer-Encoding: chunked", secret=None) + b"5\r\nhel", b"401"),
        (head("Content-Length: 900000000", secret="wrong") + b"{", b"401"),
    ],
)
async def test_p5_a_request_that_is_rejected_by_its_head_is_not_asked_for_its_body(
    request_head: bytes, status: bytes
) -> None:
    async with serving() as served:
        answer = await talk(served, request_head)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"100 Continue" not in answer
        assert served.events.stored == []


async def test_a_client_with_the_secret_that_waits_for_100_continue_gets_it() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head("Expect: 100-continue", f"Content-Length: {len(BODY)}", "Connection: close"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.read()).startswith(b"HTTP/1.1 202")
        writer.close()


async def test_p5_what_comes_behind_a_rejected_request_is_not_heard() -> None:
    event = head(f"Content-Length: {len(BODY)}") + BODY
    async with serving() as served:
        answer = await talk(served, head("Content-Length: 0", secret=None) + event * 5)
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.startswith(b"HTTP/1.1 401")
        assert served.events.stored == []
