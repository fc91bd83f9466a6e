"""A user that cannot be synced: its newest event is read from the topic again and stored as a dead letter.

This happens outside the slots of syncs (promise P5): a dead-letter topic that is slow or down, or a record that is
hard to find, delays nobody else. While a letter is not stored its offset waits (P1), and so do later events of its
user (P2).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from consumer.stream.dead_letters import DeadLetterError, DeadLetters, Letter
from consumer.stream.flight import Again, Flight, GiveUp, Landed
from consumer.stream.ledger import Ledger
from consumer.stream.pending import Waiting
from consumer.stream.worker import RetryPolicy
from consumer.sync.flight import LeaseLost

_log = structlog.get_logger("giving_up")

_POSTPONED: Final = 0.5
"""Seconds until a letter that could not be stored under the lease is tried again; a rebalance drops it before that."""


class GivingUp:
    """What the user queues run for each user that is given up."""

    def __init__(
        self,
        ledger: Ledger,
        dead_letters: DeadLetters,
        read_letter: Callable[[Waiting], Awaitable[Letter]],
        retry: RetryPolicy,
        given_up: Callable[[str], None] = lambda _user_id: None,
    ) -> None:
        """Store in `dead_letters`; `read_letter` reads an event's record from the topic again.

        `given_up` is told of each user whose letter is stored.
        """
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._read_letter = read_letter
        self._retry = retry
        self._given_up = given_up

    async def __call__(self, flight: Flight, end: GiveUp) -> Landed | Again:
        """Store the newest event as a dead letter; the others were answered by the same failing sync.

        What is not stored, for whatever reason, is not done. The user is then synced again after a back-off, and may
        well need no dead letter any more.
        """
        try:
            letter = await self._read_letter(flight.events[-1])
            with flight.writing():
                await self._dead_letters.store(letter, end.reason, end.error, end.attempts)
        except LeaseLost:
            return Again(_POSTPONED)
        except DeadLetterError:  # says so itself
            return Again(self._retry.delay(end.attempts))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._not_stored(flight, "CancelledError")  # aiokafka's clients raise it when they are closed
            return Again(self._retry.delay(end.attempts))
        except Exception as error:  # noqa: BLE001 - any exception means "not stored": the offset waits
            self._not_stored(flight, type(error).__name__)
            return Again(self._retry.delay(end.attempts))
        self._ledger.answered(flight.generation, flight.events, "dead_lettered")
        self._given_up(flight.user_id)
        return Landed()

    @staticmethod
    def _not_stored(flight: Flight, kind: str) -> None:
        # Not the text: it may quote a value.
        event = flight.events[-1]
        _log.error("dead_letter.not_stored", partition=event.partition, offset=event.offset, kind=kind)
