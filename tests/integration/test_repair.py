"""Brokers that move, passwords and certificates that are renewed: the service goes on without a restart (P9)."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.certificates import Authority
from tests.integration.stage import Stage, event, stop
from tests.integration.test_ingest import SECRET, Ingest
from tests.integration.test_ingest import event as webhook
from tests.kafka_broker import KafkaBroker, free_ports
from tests.relay import Relay
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

SESSION = 8.0
SLACK = 5.0
"""Seconds for a busy machine: less than a session time-out, so that one more of them fails."""
USER = "mailmojo-sync"
PATIENT = {"KAFKA_SESSION_TIMEOUT": str(SESSION), "SHUTDOWN_TIMEOUT": "5"}


def login(password: str) -> dict[str, str]:
    """Return the broker's property that lets the user in with this password alone."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {"listener.name.login.plain.sasl.jaas.config": f'{module} required user_{USER}="{password}";'}


class Files:
    """The certificates of both sides, in files that stay where they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.server, self.client = (folder / f"{name}.pem" for name in ("ca", "server", "client"))
        self.renew("first")

    def renew(self, name: str) -> None:
        """Have another authority issue everything anew."""
        folder = self.folder / name
        folder.mkdir()
        authority = Authority(folder)
        self.authority.write_bytes(authority.certificate.read_bytes())
        self.server.write_bytes(authority.issue("server", "DNS:localhost,IP:127.0.0.1").read_bytes())
        self.client.write_bytes(authority.issue("client", f"DNS:{USER}").read_bytes())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kafka(files: Files) -> Iterator[KafkaBroker]:
    """In place of the usual one; it has a listener for passwords and one for certificates."""
    properties = {
        "sasl.enabled.mechanisms": "PLAIN",
        **login("first"),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files.server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files.authority),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    with KafkaBroker(properties, listeners={"LOGIN": "SASL_PLAINTEXT", "MUTUAL": "SSL"}) as broker:
        yield broker


async def works(stage: Stage, users: list[str], within: float) -> None:
    """Change these users; their contacts must follow."""
    for user_id in users:
        stage.world.change(user_id)
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: not stage.stale(users), within, what="the service works")


async def restarted(stage: Stage, change: Callable[[], None]) -> float:
    """Have the broker end, change, and come back; return when it was back."""
    await asyncio.to_thread(stage.kafka.kill)
    change()
    await asyncio.to_thread(stage.kafka.start)
    return time.monotonic()


async def goes_on(stage: Stage, service: ServiceProcess, users: list[str], back_at: float) -> None:
    """Within two session time-outs the service must be at work again."""
    await works(stage, users, 2 * SESSION + SLACK)
    assert time.monotonic() - back_at < 2 * SESSION + SLACK
    await service.ready()
    await stage.all_committed()
    await stage.assert_sentinels(service)
    await stop(service)


async def test_k6_when_all_brokers_are_at_new_addresses_it_goes_by_the_bootstrap_name(stage: Stage) -> None:
    users, port = stage.users(10), free_ports(1)[0]
    async with Relay(stage.kafka.bootstrap, port=port) as name:
        service = await stage.service(KAFKA_BOOTSTRAP_SERVERS=name.address, **PATIENT)
        await works(stage, users, 60)
    back_at = await restarted(stage, stage.kafka.move)
    async with Relay(stage.kafka.bootstrap, port=port):
        await goes_on(stage, service, users, back_at)
    assert rebuilds(service) == ["group.rebuilding"]


def rebuilds(service: ServiceProcess) -> list[str]:
    return [str(line["event"]) for line in service.events("group.rebuilding")]


@pytest.mark.parametrize("file_first", [True, False])
async def test_k6_a_password_that_was_renewed_in_its_file_is_used(
    stage: Stage, tmp_path: Path, file_first: bool
) -> None:
    users, password = stage.users(10), tmp_path / "password"
    old, new = f"old-{file_first}", f"new-{file_first}"
    await restarted(stage, lambda: stage.kafka.reconfigure(login(old)))
    password.write_text(f"{old}\n")
    service = await stage.service(
        KAFKA_BOOTSTRAP_SERVERS=stage.kafka.address("LOGIN"),
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME=USER,
        KAFKA_SASL_PASSWORD_FILE=str(password),
        **PATIENT,
    )
    await works(stage, users, 60)
    if file_first:
        password.write_text(f"{new}\n")
    back_at = await restarted(stage, lambda: stage.kafka.reconfigure(login(new)))
    if not file_first:

        async def says_why() -> bool:
            status, said = await service.get("/readyz")
            return status == 503 and "refuses the login" in said and "KAFKA_SASL_PASSWORD" in said

        await wait_until(says_why, 2 * SESSION + SLACK, what="/readyz says that the login is refused")
        assert (await service.get("/livez"))[0] == 200
        password.write_text(f"{new}\n")
        back_at = time.monotonic()
    await goes_on(stage, service, users, back_at)
    for secret in (old, new):
        assert secret not in service.output()


async def test_k6_certificates_that_were_renewed_in_their_files_are_used(stage: Stage, files: Files) -> None:
    users = stage.users(10)
    service = await stage.service(
        KAFKA_BOOTSTRAP_SERVERS=stage.kafka.address("MUTUAL"),
        KAFKA_SECURITY_PROTOCOL="SSL",
        KAFKA_SSL_CAFILE=str(files.authority),
        KAFKA_SSL_CERTFILE=str(files.client),
        **PATIENT,
    )
    await works(stage, users, 60)
    back_at = await restarted(stage, lambda: files.renew("second"))
    await goes_on(stage, service, users, back_at)


async def test_k6_ingest_follows_brokers_that_move_and_uses_a_renewed_password(stage: Stage, tmp_path: Path) -> None:
    port, password = free_ports(1)[0], tmp_path / "password"
    await restarted(stage, lambda: stage.kafka.reconfigure(login("of-yesterday")))
    password.write_text("of-yesterday\n")
    async with Relay(stage.kafka.address("LOGIN"), port=port) as name:
        process = stage.start(
            "ingest",
            KAFKA_BOOTSTRAP_SERVERS=name.address,
            KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
            KAFKA_SASL_MECHANISM="PLAIN",
            KAFKA_SASL_USERNAME=USER,
            KAFKA_SASL_PASSWORD_FILE=str(password),
            INGEST_SECRET=SECRET,
            INGEST_PORT="0",
        )
        ingest = await Ingest.ready(process)
        async with aiohttp.ClientSession() as session:
            await ingest.post_until_stored(session, webhook(1))

    def move() -> None:
        stage.kafka.move()
        stage.kafka.reconfigure(login("of-today"))

    password.write_text("of-today\n")
    await restarted(stage, move)
    async with Relay(stage.kafka.address("LOGIN"), port=port), aiohttp.ClientSession() as session:
        await process.ready()
        await ingest.post_until_stored(session, webhook(2))
    await stop(process)
