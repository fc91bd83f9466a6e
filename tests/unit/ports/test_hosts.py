import asyncio
import socket

import aiohttp
import pytest

from consumer.ops import admin
from consumer.ops.metrics import Metrics
from consumer.ports.hosts import Hosts
from tests.unit.ops.test_live import Health

HOST = socket.gethostname()


@pytest.mark.parametrize(
    "authority",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "10.244.1.17:8080",
        "[::1]",
        "[2001:db8::1]:8080",
        "[fe80::1%25eth0]:8080",
        "localhost",
        "LOCALHOST:80",
        "localhost.",
        f"{HOST}:8080",
        HOST.upper(),
        "mailmojo.example.no",
        "mailmojo.example.no:443",
        "a.intern.example.no",
        "b.a.intern.example.no",
    ],
)
def test_addresses_this_machine_and_configured_names_are_allowed(authority: str) -> None:
    assert Hosts(["Mailmojo.example.no", ".intern.example.no"]).allows(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "rebound.example",
        "REBOUND.example.:8080",
        "",
        " ",
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
        "notlocalhost",
        "[::1].rebound.example",
        "[rebound.example]",
        "localhost@rebound.example",
        "rebound.example@localhost",
        "localhost:80@rebound.example",
        "localhost:x",
        "localhost/",
        "localhost, rebound.example",
        "0x7f000001",
        "2130706433",
        "127.1",
        "xmailmojo.example.no",
        "x.mailmojo.example.no",
        "intern.example.no",
        "xintern.example.no",
        "löcalhost",
        f"{HOST}.rebound.example",
    ],
)
def test_p7_foreign_names_are_not(authority: str) -> None:
    assert not Hosts(["mailmojo.example.no", ".intern.example.no"]).allows(authority)


def test_a_star_and_a_dot_mean_the_same() -> None:
    assert Hosts(["*.example.no"]).allows("a.example.no")
    assert not Hosts(["*.example.no"]).allows("example.no")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status", "/", "/events", "/nothing"])
async def test_p7_the_admin_port_rejects_a_foreign_host_on_every_path(path: str) -> None:
    async with (
        admin.serve("127.0.0.1", 0, Health(), Metrics(), allowed_hosts=["mailmojo.example.no"]) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get(path, headers={"Host": "rebound.example"}) as response:
            assert response.status == 421
            assert "ADMIN_ALLOWED_HOSTS" in await response.text()
            assert response.headers["Connection"] == "close"
        for host in ("mailmojo.example.no", "localhost:1"):
            async with session.get(path, headers={"Host": host}) as response:
                assert response.status == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),  # as some load balancers probe; a browser always names the host
        (b"GET /livez HTTP/1.0\r\nHost: rebound.example\r\n\r\n", 421),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (b"GET http://rebound.example/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/livez HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421),
        (b"GET http://[::1]:80/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: rebound.example\r\nX-Forwarded-Host: localhost\r\n\r\n", 421),
    ],
)
async def test_p7_a_host_that_is_missing_doubled_or_in_the_target_is_judged(request_head: bytes, status: int) -> None:
    async with admin.serve("127.0.0.1", 0, Health(), Metrics()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head)
        assert int((await reader.readline()).split()[1]) == status
        writer.close()
