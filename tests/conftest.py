"""Fixtures for tests against a real broker, and what becomes of those tests where there is none."""

import itertools
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from consumer import masking
from tests import kafka_broker
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess

# How long an example takes says more of what else runs on the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# `nohup` and background jobs of a shell ignore these signals, and so would every process that a test starts.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_missing = pytest.StashKey[str]()


@pytest.fixture(autouse=True)
def logs_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no logger keep where a test had it write to: by the next test that may be closed."""
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def secrets_end_with_their_test() -> Iterator[None]:
    """Have no test mask what is a secret in another one."""
    before = dict(masking._secrets)
    yield
    masking._secrets.clear()
    masking._secrets.update(before)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """One real broker for the whole run; a test that kills or freezes it leaves it running."""
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture
def topic(kafka: KafkaBroker) -> Callable[..., Awaitable[str]]:
    """A coroutine function that creates a topic of a new name, and its dead-letter topic unless told not to."""

    async def create(partitions: int = 1, *, dead_letters: bool = True, config: dict[str, str] | None = None) -> str:
        name = f"events-{uuid.uuid4().hex[:8]}"
        await kafka.create_topic(name, partitions, config)
        if dead_letters:
            await kafka.create_topic(f"{name}.dead-letters")
        return name

    return create


@pytest.fixture
def service_process(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """A function that starts the service with these settings (`KAFKA_TOPIC="…"`); all are ended after the test."""
    started: list[ServiceProcess] = []
    numbers = itertools.count(1)

    def start(*command: str, **settings: str) -> ServiceProcess:
        settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, **settings}
        process = ServiceProcess(tmp_path / f"service-{next(numbers)}", settings, command or ("run",))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
    reason = kafka_broker.unavailable() if any(item.get_closest_marker("kafka") for item in items) else None
    if reason is None:
        return
    config.stash[_missing] = reason
    for item in items:
        if item.get_closest_marker("kafka"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the broker here, since a test's time-out would count the download."""
    if not any(item.get_closest_marker("kafka") for item in session.items) or session.config.option.collectonly:
        return
    reason = session.config.stash.get(_missing, None)
    if reason is None:
        kafka_broker.fetch()
    elif os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.exit(f"CI must run every test. {reason}", returncode=1)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what did not run, so that a green line is not mistaken for the whole suite."""
    reason = config.stash.get(_missing, None)
    skipped = sorted({report.nodeid for report in terminalreporter.getreports("skipped") if "kafka" in report.keywords})
    if reason is None or not skipped:
        return
    terminalreporter.section("TESTS THAT COULD NOT RUN", red=True, bold=True)
    for nodeid in skipped:
        terminalreporter.write_line(nodeid)
    terminalreporter.write_line(f"{len(skipped)} tests did NOT run. {reason}", red=True, bold=True)
