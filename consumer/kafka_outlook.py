"""Whether Kafka is away for everybody or only for this process: what its settings, read again, lead to (P9)."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer import kafka
from consumer.clock import Clock
from consumer.failure import Failure
from consumer.kafka_factory import AIOKAFKA, KafkaFactory, bootstrap_failure
from consumer.settings import KafkaSettings

_log = structlog.get_logger("kafka")

REPAIR_SECONDS: Final = 300.0
"""How long Kafka may serve others and not this process, before it ends."""


class Outlook(Struct, frozen=True):
    """What a new client would meet at the bootstrap servers just now."""

    away: bool
    """Kafka serves nobody, as far as can be seen: no server takes connections and answers."""
    reason: str | None = None
    """Why a new client would not work, naming the settings; None if it would."""


async def look(settings: KafkaSettings, clients: KafkaFactory = AIOKAFKA) -> Outlook:
    """Read secrets and certificates again, and connect to the bootstrap servers with them, in about five seconds."""
    await settings.sasl_password.reload()
    try:
        arguments = await asyncio.to_thread(kafka.connection_arguments, settings)
    except Failure as failure:
        return Outlook(away=False, reason=str(failure))
    error = await bootstrap_failure(settings, arguments, clients)
    if error is None:
        return Outlook(away=False)
    return Outlook(away=_is_away(error), reason=kafka.explain(settings, error))


def credentials(settings: KafkaSettings) -> object:
    """Return something that differs after a secret was read again, or a certificate's file replaced."""
    files = (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile)
    return settings.sasl_password.value, [_state(Path(file)) for file in files if file]


class KafkaOutage:
    """How long Kafka has been serving others, but not this process."""

    def __init__(self, clock: Clock) -> None:
        self.since: float | None = None
        """Since when, on the clock; None while it serves this process, or nobody."""
        self._clock = clock

    def see(self, outlook: Outlook, reason: str) -> None:
        """Take note that this process is not served, and of what a new client would meet.

        Args:
            outlook: what was seen just now.
            reason: why this process is not served, where a new client would work.

        Raises:
            Failure: it was not for `REPAIR_SECONDS`, and Kafka served others all the time.
        """
        if outlook.away:
            self.since = None
            return
        if self.since is None:
            self.since = self._clock()
        if self._clock() - self.since >= REPAIR_SECONDS:
            minutes = f"{REPAIR_SECONDS / 60:.0f} minutes"
            raise Failure(f"not served by Kafka for {minutes}, though it answers: {outlook.reason or reason}")

    def over(self) -> None:
        """Take note that this process is served."""
        self.since = None


def _is_away(error: Exception) -> bool:
    """Return whether no server answered; one that accepts a connection and then closes or refuses it serves others."""
    if isinstance(error, ssl.SSLError | ConnectionResetError | KafkaError):
        return False
    return isinstance(error, OSError)  # time-outs, refused connections, names that do not resolve


def _state(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
