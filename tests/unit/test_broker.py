import sys
from inspect import signature

import pytest
from aiokafka import AIOKafkaConsumer

from consumer import kafka
from consumer.failure import Failure
from consumer.sandbox.broker import CONSUMER_OPTIONS, PARTITIONS, MockBroker
from consumer.settings import KafkaSettings


async def test_the_topics_are_there_before_anybody_asks_and_nothing_else_is() -> None:
    async with MockBroker(["a", "b"]) as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        found = await kafka.topic_partitions(settings, ["a", "b", "c"])
    assert found == {"a": PARTITIONS, "b": PARTITIONS}


async def test_a_new_group_has_no_commits() -> None:
    async with MockBroker(["a"]) as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        async with kafka.admin(settings) as client:
            assert await kafka.group_offsets(client, "group", "a") == {}
            assert await kafka.group_offsets(client, "group", "missing") == {}


def test_its_consumer_options_are_arguments_of_aiokafka() -> None:
    assert CONSUMER_OPTIONS.keys() <= signature(AIOKafkaConsumer).parameters.keys()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(Failure, match=r"pip install 'sesamy-mailmojo\[demo\]'"):
        MockBroker(["a"])
