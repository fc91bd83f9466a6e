"""The bounds that the consumer's owner keeps."""

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds in seconds, and how many events may wait."""

    max_pending: int
    session_timeout: float
    heartbeat_interval: float
    shutdown_timeout: float

    @property
    def revoke_budget(self) -> float:
        """Seconds that a revoke may take; a member learns of a rebalance up to a heartbeat late."""
        return self.session_timeout - self.heartbeat_interval - 1.0

    @property
    def call_timeout(self) -> float:
        """Seconds until a call of the broker counts as failed: with the broker down `commit()` never returns."""
        return self.session_timeout / 6

    @property
    def connection_timeout(self) -> float:
        """Seconds until a connection on which an answer is due and nothing moves counts as dead."""
        return max(2.0, self.call_timeout)
