"""How to reach Kafka: arguments for aiokafka's clients, and looks that create nothing."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from consumer import kafka_stopping, kafka_tls
from consumer.failure import Failure
from consumer.kafka_factory import AIOKAFKA, KafkaFactory, bootstrap_failure
from consumer.partitioner import partition_of
from consumer.records import fetching
from consumer.settings import KafkaSettings

T = TypeVar("T")

stop = kafka_stopping.stop
fetching.install()  # every consumer is configured here, and none may end on a record that it cannot decode

_CALL_SECONDS = 8.0
_PATIENCE = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, _CALL_SECONDS)
"""Seconds for each attempt to ask some node for the topics."""

_GROUP_ID_NOT_FOUND = 69
_LARGEST_LETTER = 64 << 20  # bytes; the dead-letter topic's max.message.bytes is the bound that counts
_NOT_PERMITTED: Mapping[type[BaseException], str] = {
    TopicAuthorizationFailedError: "use the topic",
    GroupAuthorizationFailedError: "use the group",
    ClusterAuthorizationFailedError: "write",  # what an idempotent producer is told who may write to no topic
}


class Committed(Struct, frozen=True):
    """A partition's commit, as the group coordinator keeps it."""

    offset: int
    metadata: str


def connection_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what every aiokafka client takes to reach the brokers.

    Raises:
        Failure: the certificates cannot be loaded.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = kafka_tls.client_context(kafka)
    if kafka.security_protocol.startswith("SASL_"):
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = kafka.sasl_password.value
    return arguments


def consumer_arguments(kafka: KafkaSettings, group_id: str) -> dict[str, Any]:
    """Return the arguments of the group's consumer: it commits only when told to, and never resets by itself."""
    session = int(kafka.session_timeout * 1000)
    return {
        **connection_arguments(kafka),
        "group_id": group_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # `kafka.auto_offset_reset` is applied by stream/, with the rules of the contract
        "isolation_level": kafka.isolation_level,
        "session_timeout_ms": session,
        "rebalance_timeout_ms": session,
        # A broker answers a connection in order: whatever a new assignment asks waits for the fetch before it. With
        # the usual 500 ms, half of the throughput was lost while a group rebalanced every 2 s; now a fifth is.
        "fetch_max_wait_ms": 100,
        "heartbeat_interval_ms": int(heartbeat_interval(kafka) * 1000),
        # How late new partitions, or a topic made anew, are noticed; it also keeps idle connections from being dropped.
        "metadata_max_age_ms": 5_000,
        # A broker answers a join when all members are back, at most a session later; what takes longer is a dead
        # connection, and is replaced.
        "request_timeout_ms": session + 3_000,
    }


def heartbeat_interval(kafka: KafkaSettings) -> float:
    """Return the seconds between heartbeats, and so how late a member may learn of a rebalance."""
    return min(3.0, kafka.session_timeout / 3)


def reader_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the arguments of a consumer outside any group, which looks at partitions it assigns to itself."""
    return {
        **connection_arguments(kafka),
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": kafka.isolation_level,
    }


def producer_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the arguments of a producer whose records are stored, once and in order, when a send was awaited."""
    idempotent = {"acks": "all", "enable_idempotence": True}
    return {**connection_arguments(kafka), **idempotent, "partitioner": partition_of}


def letter_producer_arguments(kafka: KafkaSettings, seconds: float) -> dict[str, Any]:
    """Return the arguments of the dead letters' producer, whose sends have failed or not after so many seconds.

    Not idempotent: a record that is refused, as one too large, leaves a gap in an idempotent producer's sequence
    numbers, and the broker then takes nothing more from it (aiokafka 0.14 starts no new epoch; seen on a broker).
    And each record goes in a batch of its own, since the broker refuses a batch as a whole.
    """
    return {
        **connection_arguments(kafka),
        "max_batch_size": 1,
        "linger_ms": 0,
        "max_request_size": _LARGEST_LETTER,
        "acks": "all",
        "request_timeout_ms": int(seconds * 1000),
    }


@asynccontextmanager
async def admin(kafka: KafkaSettings, clients: KafkaFactory = AIOKAFKA) -> AsyncIterator[AIOKafkaAdminClient]:
    """Enclose the use of an admin client; whatever Kafka refuses inside is a Failure.

    Raises:
        Failure: Kafka cannot be reached within about 5 s, or refuses; the text names the settings.
    """
    arguments = connection_arguments(kafka)
    if (failure := await bootstrap_failure(kafka, arguments, clients)) is not None:
        raise Failure(explain(kafka, failure)) from failure
    client = clients.admin(**arguments, request_timeout_ms=int(_CALL_SECONDS * 1000))
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            await client.start()
        yield client
    except (KafkaError, OSError) as error:  # TimeoutError is an OSError
        raise Failure(explain(kafka, error)) from error
    finally:
        await client.close()


async def topic_partitions(
    kafka: KafkaSettings, names: Collection[str], clients: KafkaFactory = AIOKAFKA
) -> dict[str, int]:
    """Return how many partitions each of these topics has; a topic that does not exist is left out, never created.

    Raises:
        Failure: as `admin`.
    """
    async with admin(kafka, clients) as client:
        return await count_partitions(client, names)


async def require_topics(kafka: KafkaSettings, clients: KafkaFactory = AIOKAFKA) -> None:
    """Refuse to go on without the topics: subscribing to a missing one would create it where the broker allows that.

    Raises:
        Failure: one is missing, or as `admin`.
    """
    wanted = {kafka.topic: "KAFKA_TOPIC", kafka.dead_letter_topic: "KAFKA_DEAD_LETTER_TOPIC"}
    there = await topic_partitions(kafka, list(wanted), clients)
    if missing := {name: setting for name, setting in wanted.items() if name not in there}:
        raise Failure(missing_topics(kafka, missing))


async def count_partitions(client: AIOKafkaAdminClient, names: Collection[str]) -> dict[str, int]:
    """Do what `topic_partitions` does, with an admin client at hand."""
    for patience in _PATIENCE:
        try:
            async with asyncio.timeout(patience):
                topics = await client.describe_topics()  # asked for by name, a missing topic may be created (measured)
                break
        except (NodeNotReadyError, TimeoutError):
            # Any node is asked, also one that is down: the next time it may be another one.
            if patience == _PATIENCE[-1]:
                raise
            await asyncio.sleep(0.2)
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in topics
        if topic["topic"] in names and not topic["error_code"] and topic["partitions"]
    }


async def group_offsets(
    client: AIOKafkaAdminClient, group_id: str, topic: str, partitions: int | None = None
) -> Mapping[int, Committed]:
    """Return the group's commits by partition of the topic, metadata included; empty for a new group.

    `partitions` is how many the topic has, where that is known already.

    Raises:
        KafkaError, TimeoutError: inside `admin` they become a Failure.
    """
    if partitions is None:
        partitions = (await count_partitions(client, {topic})).get(topic, 0)
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    if not places:
        return {}

    async def ask() -> Mapping[TopicPartition, OffsetAndMetadata]:
        # By name: asked for everything a group has, the mock cluster of the demo gives an answer that aiokafka cannot
        # read. And only by name does an answer tell "no commit" from "not known yet": aiokafka 0.14 overlooks the
        # error of the whole answer, such as a coordinator that still loads, and a group that looks new starts anew.
        found = await client.list_consumer_group_offsets(group_id, partitions=places)
        if len(found) < len(places):
            raise GroupLoadInProgressError(group_id)
        return found

    found = await _at_coordinator(ask)
    return {
        place.partition: Committed(commit.offset, commit.metadata)
        for place, commit in found.items()
        if place.topic == topic and commit.offset >= 0
    }


async def group_members(client: AIOKafkaAdminClient, group_id: str) -> int:
    """Return how many members the group has; 0 for a group nobody knows.

    Raises:
        KafkaError, TimeoutError: inside `admin` they become a Failure.
    """

    async def ask() -> int:
        responses = await client.describe_consumer_groups([group_id])
        groups = [group for response in responses for group in response.to_object()["groups"]]
        for group in groups:
            # aiokafka 0.14 overlooks it; a coordinator that still loads says so here, too.
            if group["error_code"] not in {0, _GROUP_ID_NOT_FOUND}:
                raise for_code(group["error_code"])(group_id)
        return sum(len(group["members"]) for group in groups)

    return await _at_coordinator(ask)


async def _at_coordinator(call: Callable[[], Awaitable[T]]) -> T:
    """Ask until the group's broker is known and ready: it changes, and on a new cluster it has to be chosen first."""
    async with asyncio.timeout(_CALL_SECONDS):
        while True:
            try:
                return await call()
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
                await asyncio.sleep(0.2)


def missing_topics(kafka: KafkaSettings, topics: Mapping[str, str]) -> str:
    """Return one line for people: these topics, by name with their settings, are not there as far as one can see."""
    named = " and ".join(f"{name} ({setting})" for name, setting in topics.items())
    are, it = (f"topics {named} do", "them") if len(topics) > 1 else (f"topic {named} does", "it")
    # A topic that a user may not describe looks as if it were not there.
    hidden = "" if kafka.security_protocol == "PLAINTEXT" else f", or this user may not Describe {it}"
    return (
        f"{are} not exist at {kafka.bootstrap_servers}{hidden}; create {it}, or correct {' or '.join(topics.values())}"
    )


def explain(kafka: KafkaSettings, error: BaseException) -> str:
    """Return one line for people: what went wrong with Kafka, and which settings to look at."""
    where = f"{kafka.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS)"
    tls = kafka.security_protocol.endswith("SSL")
    if isinstance(error, KafkaConnectionError) and isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__
    if isinstance(error, UnsupportedSaslMechanismError):
        return (
            f"Kafka at {where} does not offer the login {kafka.sasl_mechanism}; "
            "set KAFKA_SASL_MECHANISM to one that it offers: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"
        )
    if isinstance(error, IllegalSaslStateError):
        return (
            f"Kafka at {where} asks for no login; "
            f"set KAFKA_SECURITY_PROTOCOL to {'SSL' if tls else 'PLAINTEXT'}, or use the port that asks for one"
        )
    if isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed):
        return (
            f"Kafka at {where} refuses the login of {kafka.sasl_username} with {kafka.sasl_mechanism}: {_text(error)}; "
            "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or its _FILE) and KAFKA_SASL_MECHANISM"
        )
    if isinstance(error, ssl.SSLError) or (tls and isinstance(error, ConnectionResetError)):
        return kafka_tls.explain(kafka, where, error)
    if isinstance(error, TimeoutError):
        return (
            f"Kafka at {where} does not answer in time; "
            "check the address, its firewall, and whether KAFKA_SECURITY_PROTOCOL is what that port speaks"
        )
    if isinstance(error, KafkaConnectionError):
        return f"Kafka at {where} closes the connection; {_otherwise(kafka)}"
    if isinstance(error, OSError):
        return f"cannot reach Kafka at {where}: {kafka_tls.reason(error)}; check the address and the network"
    if isinstance(error, NodeNotReadyError):
        return f"Kafka at {where} answers, but a broker it names does not; check the brokers' advertised.listeners"
    if use := _NOT_PERMITTED.get(type(error)):
        return (
            f"Kafka at {where} does not permit {kafka.sasl_username or 'this user'} to {use} ({_text(error)}); "
            "grant what docs/operations.md lists as least privilege"
        )
    return f"Kafka at {where} refuses: {_text(error)}"


def _otherwise(kafka: KafkaSettings) -> str:
    """Return what to try where a connection is closed without a word, as brokers do when they expect something else."""
    wanted = {
        "PLAINTEXT": "TLS or a login: try SSL, SASL_SSL or SASL_PLAINTEXT",
        "SASL_PLAINTEXT": "TLS: try SASL_SSL",
        "SSL": "a login: try SASL_SSL",
        "SASL_SSL": "a client certificate: see KAFKA_SSL_CERTFILE",
    }[kafka.security_protocol]
    return f"KAFKA_SECURITY_PROTOCOL is {kafka.security_protocol}, and that port may want {wanted}"


def _text(error: BaseException) -> str:
    """Return the error's own words on one line, or its name where it has none."""
    words = re.sub(r"\[Error \d+\] |<AIOKafka[^>]*>", "", " ".join(str(error).split()))
    return words.removeprefix(type(error).__name__).strip(" :") or type(error).__name__
