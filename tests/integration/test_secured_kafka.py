"""A broker with TLS, logins and permissions: everything works there, and each mistake is told in one line."""

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.certificates import Authority
from tests.integration.stage import Stage, event, headers, stop
from tests.integration.test_mistakes import complaint
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.secured_kafka import PASSWORD, STRANGER, SecuredKafka, grant
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

WRONG = "quite another password"
NO_LOGIN = {"KAFKA_SASL_MECHANISM": "", "KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD_FILE": ""}
NO_TLS = {"KAFKA_SSL_CAFILE": ""}
BOUND = 20.0
"""Seconds: nobody waits longer for the news that a setting is wrong."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    secured = SecuredKafka(tmp_path_factory.mktemp("secured"))
    with secured.broker:
        yield secured


@pytest.fixture(scope="module")
def kafka(secured: SecuredKafka) -> KafkaBroker:
    """In place of the usual one: at its usual address a test may do everything."""
    return secured.broker


async def finish(stage: Stage, secured: SecuredKafka, *command: str, **settings: str) -> ServiceProcess:
    """Run a command to its end, on the secured listener unless the settings say otherwise."""
    process = stage.start(*command, **{**secured.settings, **settings})
    await process.exit_code(BOUND)
    assert "Traceback" not in process.output()
    for password in (PASSWORD, WRONG):
        assert password not in process.output()
    return process


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_check_passes_with_a_login_over_tls(stage: Stage, secured: SecuredKafka, mechanism: str) -> None:
    check = await finish(stage, secured, "check", KAFKA_SASL_MECHANISM=mechanism)
    assert check.returncode == 0, check.output()


async def test_check_passes_with_a_client_certificate(stage: Stage, secured: SecuredKafka) -> None:
    settings = {
        **NO_LOGIN,
        "KAFKA_BOOTSTRAP_SERVERS": secured.broker.address("MUTUAL"),
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CERTFILE": str(secured.client_certificate),
    }
    check = await finish(stage, secured, "check", **settings)
    assert check.returncode == 0, check.output()


class Mistake(NamedTuple):
    """A listener, what is set wrongly for it, and what the one line must say: the settings to look at."""

    listener: str
    settings: dict[str, str]
    says: tuple[str, ...]


MISTAKES = {
    "a wrong password": Mistake(
        "SECURE",
        {"KAFKA_SASL_PASSWORD_FILE": "", "KAFKA_SASL_PASSWORD": WRONG},
        ("refuses the login", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"),
    ),
    "a user that there is not": Mistake(
        "SECURE", {"KAFKA_SASL_USERNAME": "nobody"}, ("refuses the login", "nobody", "KAFKA_SASL_USERNAME")
    ),
    "a mechanism that the user has no password for": Mistake(
        "SECURE",
        {"KAFKA_SASL_USERNAME": STRANGER, "KAFKA_SASL_MECHANISM": "PLAIN"},
        ("refuses the login", "KAFKA_SASL_MECHANISM", "PLAIN"),
    ),
    "a mechanism that the port does not offer": Mistake(
        "BARE",
        {**NO_TLS, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "PLAIN"},
        ("does not offer", "KAFKA_SASL_MECHANISM", "PLAIN"),
    ),
    "no authority": Mistake("SECURE", {"KAFKA_SSL_CAFILE": ""}, ("not trusted", "set KAFKA_SSL_CAFILE")),
    "another authority": Mistake(
        "SECURE", {"KAFKA_SSL_CAFILE": "{other}"}, ("not trusted", "KAFKA_SSL_CAFILE", "other")
    ),
    "the certificate of another host": Mistake("MISNAMED", {}, ("certificate", "127.0.0.1", "KAFKA_BOOTSTRAP_SERVERS")),
    "no TLS where it is spoken": Mistake(
        "SECURE",
        {**NO_LOGIN, **NO_TLS, "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"},
        ("closes the connection", "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ),
    "a login without TLS where it is spoken": Mistake(
        "SECURE",
        {**NO_TLS, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        ("closes the connection", "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ),
    "TLS where it is not spoken": Mistake(
        "PLAINTEXT", {}, ("no TLS", "KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT", "PLAINTEXT")
    ),
    "TLS where only the login is": Mistake("BARE", {}, ("no TLS", "KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")),
    "a login where none is asked for": Mistake(
        "PLAINTEXT",
        {**NO_TLS, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        ("asks for no login", "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
    ),
    "a login where a certificate is asked for": Mistake(
        "MUTUAL", {"KAFKA_SSL_CERTFILE": "{client}"}, ("asks for no login", "KAFKA_SECURITY_PROTOCOL", "SSL")
    ),
    "no login where one is asked for": Mistake(
        "SECURE",
        {**NO_LOGIN, "KAFKA_SECURITY_PROTOCOL": "SSL"},
        ("closes the connection", "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ),
    "no client certificate": Mistake(
        "MUTUAL", {**NO_LOGIN, "KAFKA_SECURITY_PROTOCOL": "SSL"}, ("certificate", "KAFKA_SSL_CERTFILE")
    ),
    "a client certificate of another authority": Mistake(
        "MUTUAL",
        {**NO_LOGIN, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTFILE": "{foreign}"},
        ("certificate", "KAFKA_SSL_CERTFILE"),
    ),
}


@pytest.fixture(scope="module")
def files(secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that a setting may name by mistake, by how `MISTAKES` calls them."""
    folder = tmp_path_factory.mktemp("files")
    stranger = Authority(folder, "other")
    return {
        "other": stranger.certificate,
        "foreign": stranger.issue("foreign", "DNS:foreign"),
        "client": secured.client_certificate,
    }


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
async def test_check_names_the_setting_and_the_way_out(
    stage: Stage, secured: SecuredKafka, files: dict[str, Path], mistake: Mistake
) -> None:
    settings = {name: value.format_map(files) for name, value in mistake.settings.items()}
    address = secured.broker.address(mistake.listener)
    check = await finish(stage, secured, "check", KAFKA_BOOTSTRAP_SERVERS=address, **settings)
    assert check.returncode == 1
    (line,) = [line for line in check.stdout.read_text().splitlines() if line.startswith("failed")]
    assert re.match(r"failed +Kafka ", line)
    for words in mistake.says:
        assert words in line
    assert not re.search(r"Error\b|_ssl\.c|\[SSL", line), line  # said for people, not in the words of a library
    assert check.stderr.read_text() == ""


async def test_an_authority_that_is_not_there_is_a_wrong_setting(stage: Stage, secured: SecuredKafka) -> None:
    check = await finish(stage, secured, "check", KAFKA_SSL_CAFILE="/no/such.pem")
    assert check.returncode == 2
    line = complaint(check)
    assert "KAFKA_SSL_CAFILE" in line
    assert "/no/such.pem" in line


COMMANDS = (
    ("run",),
    ("sync", "--no-wait", "email|1"),
    ("backfill",),
    ("dead-letters", "list"),
    ("replay", "--from", "topic:events", "--to", "topic:others"),
    ("load-test",),
    ("ingest",),
)
"""All that reach Kafka, but for `check`, which says more."""


@pytest.mark.parametrize("mistake", ["a wrong password", "no authority", "TLS where it is not spoken"])
async def test_every_command_ends_with_that_one_line(stage: Stage, secured: SecuredKafka, mistake: str) -> None:
    listener, settings, says = MISTAKES[mistake]
    address = secured.broker.address(listener)
    for command in COMMANDS:
        more = {"KAFKA_BOOTSTRAP_SERVERS": address, "INGEST_SECRET": "of-a-webhook", "INGEST_PORT": "0"}
        process = await finish(stage, secured, *command, **more, **settings)
        assert process.returncode == 1
        line = complaint(process)
        for words in says:
            assert words in line


async def test_check_tells_a_user_without_permissions_what_is_missing(stage: Stage, secured: SecuredKafka) -> None:
    check = await finish(stage, secured, "check", KAFKA_SASL_USERNAME=STRANGER)
    assert check.returncode == 1
    lines = check.stdout.read_text().splitlines()
    assert any(re.match(r"ok +Kafka ", line) for line in lines)
    failed = [line for line in lines if line.startswith("failed")]
    for line, name, words in zip(
        failed,
        ("topic", "dead-letter topic", "group"),
        (("KAFKA_TOPIC", "Describe"), ("KAFKA_DEAD_LETTER_TOPIC", "Describe"), ("KAFKA_GROUP_ID", STRANGER, "grant")),
        strict=True,
    ):
        assert re.match(rf"failed +{name} ", line)
        for word in words:
            assert word in line


async def test_run_names_the_permission_that_it_lacks(stage: Stage, secured: SecuredKafka) -> None:
    for topic in (stage.topic, f"{stage.topic}.dead-letters"):
        await asyncio.to_thread(grant, secured.broker, [(STRANGER, "topic", topic, "describe")])
    for kind, name in (("group", stage.group), ("topic", stage.topic)):
        run = await finish(stage, secured, "run", KAFKA_SASL_USERNAME=STRANGER)
        assert run.returncode == 1
        line = complaint(run)
        for words in (STRANGER, f"use the {kind}", name, "grant"):
            assert words in line
        await asyncio.to_thread(grant, secured.broker, [(STRANGER, kind, name, "read")])


async def test_everything_works_with_a_login_over_tls(stage: Stage, secured: SecuredKafka) -> None:
    refused, *users = stage.users(5)
    stage.fail(api="mailmojo", key="user.0000@example.no", operation="post_subscriber", status=422)
    await stage.send(*(event(user) for user in (refused, *users)), Message(b"nobody", b"no event", partition=0))
    service = await stage.service(**secured.settings)
    refusals = partial(stage.log.requests, "mailmojo", "post_subscriber", "user.0000@example.no")
    await wait_until(refusals, what="the contact was refused")
    users += stage.users(1, "email|later")  # a later write that is accepted is the evidence
    await stage.send(event(users[-1]))
    await stage.all_committed()
    assert stage.stale(users) == {}
    letters = [headers(letter)["dead-letter-reason"] for letter in await stage.dead_letters()]
    assert sorted(letters) == ["malformed", "rejected"]
    stage.world.change(users[0], profile={"mobilePhone": "+4790000000"})
    asked = await finish(stage, secured, "sync", users[0])
    assert asked.returncode == 0, asked.output()
    assert stage.stale(users) == {}
    listed = await finish(stage, secured, "dead-letters", "list", "--json")
    assert '"reason":"rejected"' in listed.stdout.read_text()
    await stage.assert_sentinels(service)
    await stop(service)


async def test_a_load_test_works_with_a_login_over_tls_and_lacks_a_permission_in_one_line(
    stage: Stage, secured: SecuredKafka
) -> None:
    load = ("load-test", "--events", "50", "--users", "5", "--max", "--instances", "1", "--partitions", "2")
    held = await finish(stage, secured, *load)
    assert held.returncode == 0, held.output()
    refused = await finish(stage, secured, *load, KAFKA_SASL_USERNAME=STRANGER)
    assert refused.returncode == 1
    line = complaint(refused)
    for words in (STRANGER, "grant"):
        assert words in line
