"""The page during the demo, as a newcomer opens it."""

import asyncio
import re
import sys
from pathlib import Path

from playwright.async_api import Browser, expect

ROOT = Path(__file__).parents[2]


async def test_the_demo_prints_an_address_that_shows_it_at_work_and_then_over(browser: Browser) -> None:
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumer", "demo", "--users", "250", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert demo.stdout is not None
        address = None
        while address is None:
            line = (await demo.stdout.readline()).decode()
            assert line, "the demo ended"
            address = re.search(r"admin +(http://127\.0\.0\.1:\d+)", line)
        page = await browser.new_page()
        await page.goto(address[1])
        await expect(page.locator("#headline")).to_have_text("Joining the consumer group")
        await expect(page.locator("#headline")).to_have_text(re.compile("Up to date|Catching up"), timeout=40_000)
        await expect(page.locator("#writes tbody tr")).not_to_have_count(0, timeout=40_000)
        await expect(page.locator("#letters")).to_contain_text("malformed", timeout=40_000)
        await expect(page.locator("#promises")).to_contain_text("kept")
        await expect(page.locator("#headline")).to_have_text("No answer from the service", timeout=40_000)
    finally:
        if demo.returncode is None:
            _, _ = await asyncio.wait_for(demo.communicate(), 60)
    assert demo.returncode == 0
