"""Who may bring events: whoever sends the secret in the header."""

import asyncio
import hmac
from collections.abc import Sequence
from typing import Final

import structlog

from consumer.clock import Clock
from consumer.secret import Secret

_log = structlog.get_logger("ingest")

OVERLAP: Final = 600.0
"""Seconds for which the old secret stays good once a new one was found in the file: Sesamy tries a refused webhook
not again (`docs/reference/sesamy.md`), so a rotation must refuse none."""

_LOG_EVERY: Final = 60.0


class Gate:
    """Compares secrets in constant time. What does not fit has the secret's file read again, so it can be rotated."""

    def __init__(self, secret: Secret, *, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._lock = asyncio.Lock()
        self._reads = 0
        self._old, self._old_until = "", 0.0
        self._logged = -_LOG_EVERY

    async def admits(self, given: Sequence[str]) -> bool:
        """Return whether the header came once, and with the secret."""
        if len(given) == 1:
            sent = given[0].encode("utf-8", "surrogateescape")
            if self._fits(sent):
                return True
            await self._read_again()
            if self._fits(sent):
                return True
        if self._clock() - self._logged >= _LOG_EVERY:
            self._logged = self._clock()
            _log.warning("ingest.secret_refused", header_given=bool(given))
        return False

    def _fits(self, sent: bytes) -> bool:
        fits = hmac.compare_digest(sent, self._secret.value.encode())
        old = self._old if self._clock() < self._old_until else ""
        return fits | (bool(old) & hmac.compare_digest(sent, old.encode()))

    async def _read_again(self) -> None:
        """Read the file, one reader at a time, unless a read that began after this call has ended."""
        begun = self._reads
        async with self._lock:
            if self._reads > begun:
                return
            self._reads += 1
            before = self._secret.value
            if not await self._secret.reload():
                return
            if not self._secret.value:  # a file being written: an empty secret would let in an empty header
                self._secret.value = before
                return
            self._old, self._old_until = before, self._clock() + OVERLAP
            _log.info("ingest.secret_changed", old_accepted_for=OVERLAP)
