"""The service as a process of a simulated world: started, asked to stop, killed, and started again when it ends."""

import asyncio
from collections.abc import Callable
from typing import Final

from consumer.clock import Clocks
from consumer.failure import Failure
from consumer.kafka_factory import KafkaFactory
from consumer.ops.history import totals
from consumer.ops.metrics import Metrics
from consumer.service import Service, open_service
from consumer.settings import Settings
from consumer.surroundings import Surroundings
from tests.simulation.apis import Apis
from tests.simulation.host import Host

_SLACK: Final = 1.5
"""Seconds after SHUTDOWN_TIMEOUT in which a process must have ended."""


class Process:
    """One process, from its start to its end."""

    def __init__(
        self, host: Host, settings: Settings, kafka: KafkaFactory, apis: Apis, ended: Callable[["Process"], None]
    ) -> None:
        """Start it; `ended` is called when it ends by itself or because it was asked to."""
        self.host = host
        self.metrics = Metrics()
        self.service: Service | None = None
        self.failure: str | None = None
        """Why it ended, unless it did so in order."""
        self.unexpected = False
        """Whether it ended with a traceback."""
        self.is_stopping = False
        self.patience = settings.sync.shutdown_timeout + _SLACK
        """Seconds within which it must end when it is asked to."""
        self._settings = settings
        self._ended = ended
        clocks = Clocks(host.monotonic, host.suspended_time, host.wall_clock)
        rng = host.timeline.stream(f"service {host.name} {host.timeline.now}")
        self._surroundings = Surroundings(
            clocks=clocks, kafka=kafka, http=apis.client(host), rng=rng, environment={}, has_admin_port=False
        )
        self._stopping: asyncio.Event | None = None
        self._main = host.spawn(self._run(), name="main")
        self._main.add_done_callback(lambda _: host.timeline.after(0.0, self._exit))

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.host.post(self._stop)
        self.host.timeline.after(self.patience, self._check_end)

    def sentinels(self) -> float:
        """Return how often the program noticed that it broke P1 or P2."""
        violations = (self.metrics.order_violations, self.metrics.commit_violations)
        return sum(totals(counter).total() for counter in violations)

    def late_users(self) -> set[str]:
        """Return the users to whom it wrote too late, and for whom it has still to request a sync."""
        return set() if self.service is None else set(self.service._parts.late_writes._waiting)

    async def _run(self) -> None:
        try:
            async with open_service(self._settings, self.metrics, surroundings=self._surroundings) as service:
                self.service = service
                self._stopping = asyncio.Event()
                await service.run(self._stopping)
        except Failure as failure:
            self.failure = str(failure)
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
        except BaseException as error:
            self.failure, self.unexpected = repr(error), True
            raise

    def _stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()
        else:
            self._main.cancel()

    def _check_end(self) -> None:
        if self.host.alive and not self.host.frozen:
            self.failure, self.unexpected = "not stopped within SHUTDOWN_TIMEOUT", True
            self._exit()

    def _exit(self) -> None:
        if self.host.alive:
            self.host.crash()
            self._ended(self)
