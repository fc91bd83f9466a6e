"""A real Chromium, and the admin port with a service behind it that says what a test wants it to say."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from consumer.ops import admin
from consumer.ops.metrics import Metrics
from consumer.sync.evidence import Outage
from tests.browser.pretended import HEALTHY

expect.set_options(timeout=30_000)  # milliseconds; more than a busy machine needs

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM.exists() or os.environ.get("CI", "").lower() in {"1", "true"}:
        return  # CI must run every test
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="no Chromium; on Debian and Ubuntu: apt-get install chromium"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGUMENTS, "--no-first-run"])
        yield browser
        await browser.close()


class Pretended:
    """A service that says what it is told to say."""

    def __init__(self) -> None:
        self.says: Mapping[str, Any] = HEALTHY
        self.asked = 0
        self.past: Mapping[str, Any] = {"interval": 1.0, "done": [0, 2, 4, 3], "behind": [9, 7, 3, 0]}

    def alive(self) -> bool:
        return True

    def unready(self) -> Mapping[str, str]:
        reasons: Mapping[str, str] = self.says["reasons"]
        return reasons

    def outages(self) -> list[Outage]:
        return []

    def status(self) -> Mapping[str, Any]:
        self.asked += 1
        return self.says

    def history(self) -> Mapping[str, Any]:
        return self.past

    def refresh(self) -> None:
        pass


@pytest.fixture
def service() -> Pretended:
    return Pretended()


@pytest.fixture
async def url(service: Pretended) -> AsyncIterator[str]:
    async with admin.serve("127.0.0.1", 0, service, Metrics()) as port:
        yield f"http://127.0.0.1:{port}"
