"""What the page tells of the last writes and dead letters: few, newest first, and nobody's address."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer.ops.recent import Recent, RememberedDeadLetters
from consumer.stream.dead_letters import DeadLetterError, Letter, Reason
from consumer.stream.flight import Flight
from consumer.stream.pending import Waiting
from consumer.sync.flight import WriteAudit

AUDIT = WriteAudit(action="patch", fields=("phone",), tags_added=("sesamy_tag_a",), tags_removed=())
LETTER = Letter(topic="t", partition=3, offset=9, key=b"email|kari@example.no", value=b'{"a": "kari@example.no"}')


def flight(user_id: str, *offsets: int) -> Flight:
    events = [Waiting(1, offset, "contract.1#update", 0.0, 0.0, is_request=False) for offset in offsets]
    return cast("Flight", SimpleNamespace(user_id=user_id, events=events))


def test_a_write_is_told_by_names_and_place_and_its_user_is_masked() -> None:
    recent = Recent(lambda: 7.0)
    recent.wrote(flight("email|kari@example.no", 4, 5), AUDIT)
    (write,) = recent.told()["recent_writes"]
    assert (write["at"], write["partition"], write["offset"], write["events"]) == (7.0, 1, 5, 2)
    assert write["fields"] == ("phone",)
    assert "kari" not in json.dumps(recent.told())


def test_the_newest_come_first_and_their_number_is_bounded() -> None:
    recent = Recent(lambda: 0.0)
    for number in range(1000):
        recent.wrote(flight(f"u{number}", number), AUDIT)
        recent.stored(LETTER, "malformed", "not JSON", number)
    told = recent.told()
    assert [write["user_id"] for write in told["recent_writes"]] == [f"u{number}" for number in range(999, 969, -1)]
    assert [letter["attempts"] for letter in told["recent_dead_letters"]] == list(range(999, 969, -1))


class Topic:
    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.stored: list[Any] = []

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        await asyncio.sleep(0)
        if self.refuses:
            raise DeadLetterError
        self.stored.append((letter, reason, error, attempts))


async def test_a_dead_letter_is_stored_as_ever_and_told_without_what_it_holds() -> None:
    topic, recent = Topic(refuses=False), Recent(lambda: 7.0)
    await RememberedDeadLetters(topic, recent).store(LETTER, "rejected", "refused kari@example.no", 2)
    assert topic.stored == [(LETTER, "rejected", "refused kari@example.no", 2)]
    (letter,) = recent.told()["recent_dead_letters"]
    assert (letter["reason"], letter["partition"], letter["offset"], letter["attempts"]) == ("rejected", 3, 9, 2)
    assert "kari" not in json.dumps(recent.told())


async def test_one_that_was_not_stored_is_not_told() -> None:
    recent = Recent(lambda: 0.0)
    with pytest.raises(DeadLetterError):
        await RememberedDeadLetters(Topic(refuses=True), recent).store(LETTER, "rejected", "", 1)
    assert recent.told()["recent_dead_letters"] == []
