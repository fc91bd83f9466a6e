"""The permissions that the page of operations names are enough, tried on a real broker that has an authorizer."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from consumer.sandbox import Sandbox
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.secured_kafka import grant
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

PAGE = Path(__file__).parents[2] / "docs/operations.md"
TOPIC, LETTERS = "sesamy.events", "sesamy.events.dead-letters"
USER = "email|84cccf985de28a2a84824786"
COMMANDS = ("run", "check", "sync", "dead-letters")
"""Each logs in as a user of its name. What is not said to anybody, the authorizer refuses."""


def _permissions() -> list[tuple[str, str, str, str]]:
    section = PAGE.read_text(encoding="utf-8").partition("**Least privilege at Kafka**")[2].partition("\n**")[0]
    rows = re.findall(r"^\| (topic|group|transactional id) `([\w.-]+)` \| (\w+) \| (.*) \|$", section, re.MULTILINE)
    return [
        (command, kind, name, operation)
        for kind, name, operation, commands in rows
        for command in re.findall(r"`([\w-]+)`", commands)
    ]


@pytest.fixture
async def strict_kafka() -> AsyncIterator[tuple[KafkaBroker, str]]:
    """A broker, and where it asks for a login; at its usual address everything is allowed."""
    users = " ".join(f'user_{command}="password"' for command in COMMANDS)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    broker = KafkaBroker(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f"{module} required {users};",
        },
        listeners={"GUARDED": "SASL_PLAINTEXT"},
    )
    with broker:
        await broker.create_topic(TOPIC, 2)
        await broker.create_topic(LETTERS)
        yield broker, broker.address("GUARDED")


async def test_what_the_page_names_is_enough(
    strict_kafka: tuple[KafkaBroker, str], service_process: Callable[..., ServiceProcess]
) -> None:
    kafka, guarded = strict_kafka
    async with Sandbox() as sandbox:
        sandbox.world.add_user(USER, profile={"email": "kari@example.no"}, contracts=[])

        def start(*command: str) -> ServiceProcess:
            settings = {
                "KAFKA_BOOTSTRAP_SERVERS": guarded,
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": command[0],
                "KAFKA_SASL_PASSWORD": "password",
                "SYNC_LINGER": "0.1",
            }
            return service_process(*command, **settings, **sandbox.environment)

        refused = start("check")
        assert await refused.exit_code() == 1, refused.output()

        await asyncio.to_thread(grant, kafka, _permissions())
        run = start("run")
        await run.ready()
        await kafka.produce(TOPIC, [Message(b"nobody", b"no event")])

        async def is_stored() -> bool:
            return await run.metric("dead_letters_total") == 1

        await wait_until(is_stored, what="the dead letter is stored")
        for command in (("check",), ("sync", USER), ("dead-letters", "retry", "--yes")):
            process = start(*command)
            assert await process.exit_code() == 0, process.output()
        assert sandbox.world.contact("kari@example.no") is not None
        assert await run.metric("commit_failures_total") == 0
