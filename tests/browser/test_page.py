"""The page for people in a real Chromium: what a newcomer sees, and that it stays live and harmless."""

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from consumer.ops import admin
from consumer.ops.metrics import Metrics
from tests.browser.conftest import Pretended
from tests.browser.pretended import BEHIND, BROKEN, HEALTHY, HELD_UP, status
from tests.waiting import wait_until


@pytest.fixture
async def page(browser: Browser, url: str) -> AsyncIterator[Page]:
    """An open page that has said nothing to its console and asked nobody but the admin port by the end."""
    page = await browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else said.append(request.url))
    await page.goto(url)
    yield page
    assert [line for line in said if "net::ERR" not in line] == []


async def test_a_newcomer_sees_that_all_is_well(page: Page) -> None:
    await expect(page.locator("#headline")).to_have_text("Up to date")
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator("#lag")).to_have_text("5")
    await expect(page.locator("#sesamy")).to_contain_text("100 a minute")
    await expect(page.locator("#mailmojo")).to_contain_text("all there")
    await expect(page.locator("#promises")).to_contain_text("kept")
    await expect(page.locator("#partitions tbody tr")).to_have_count(6)
    await expect(page.locator("#writes tbody tr").first).to_contain_text("email|84cccf985de28a2a84824700")
    await expect(page.locator("#letters")).to_contain_text("the address is not valid")
    assert "Up to date" in await page.title()


async def test_it_follows_without_a_reload_how_far_behind_it_is_and_what_waits_for_what(
    page: Page, service: Pretended
) -> None:
    await expect(page.locator("#headline")).to_have_text("Up to date")
    service.says = BEHIND
    await expect(page.locator("#headline")).to_have_text("Catching up, 14,210 events behind")
    await expect(page.locator("#detail")).to_contain_text("Sesamy's quota, here 100 requests a minute")
    await expect(page.locator("#flow li.most")).to_contain_text("58")
    await expect(page.locator("#flow li.most")).to_contain_text("waiting for Sesamy")
    service.says = HELD_UP
    await expect(page.locator("#headline")).to_have_text("Held up, waiting for Mailmojo")
    await expect(page.locator("#detail")).to_contain_text("check MAILMOJO_API_TOKEN")
    await expect(page.locator("#flow li.most")).to_contain_text("371")
    service.says = BROKEN
    await expect(page.locator("#headline")).to_have_text("A promise was broken")
    service.says = HEALTHY
    await expect(page.locator("#headline")).to_have_text("Up to date")


async def test_the_charts_begin_with_what_was_before_the_page_was_opened(page: Page) -> None:
    await expect(page.locator("#lag-top")).to_have_text("peak 9")
    points = await page.locator("#lag-chart polyline").get_attribute("points")
    assert points is not None
    assert len(points.split()) >= 5


@pytest.mark.parametrize("width", [320, 390, 768, 1240])
@pytest.mark.parametrize("said", [BEHIND, HELD_UP], ids=["behind", "held up"])
async def test_nothing_sticks_out_at_any_width(
    browser: Browser, url: str, service: Pretended, width: int, said: dict[str, object]
) -> None:
    service.says = said
    page = await browser.new_page(viewport={"width": width, "height": 800})
    await page.goto(url)
    await expect(page.locator("#live")).to_have_text("live")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("said", [HEALTHY, BEHIND, HELD_UP], ids=["healthy", "behind", "held up"])
async def test_text_can_be_read_in_both_schemes(
    browser: Browser, url: str, service: Pretended, scheme: str, said: dict[str, object]
) -> None:
    service.says = said
    page = await browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
    await page.goto(url)
    await expect(page.locator("#live")).to_have_text("live")
    dim = await page.evaluate(CONTRASTS)
    assert len(dim) > 80
    assert {text: ratio for text, ratio in dim if ratio < 4.5} == {}
    assert math.isclose(await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"), scheme == "dark")


async def test_the_keyboard_reaches_everything_and_pauses(page: Page, service: Pretended) -> None:
    await expect(page.locator("#live")).to_have_text("live")
    reached = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[:6] == ["To the state", "pause", "partitions", "writes", "letters", "/status"]
    await page.keyboard.press("p")
    await expect(page.locator("#live")).to_have_text("paused")
    service.says = BEHIND
    asked = service.asked
    await page.wait_for_timeout(2500)
    assert service.asked <= asked + 1
    await expect(page.locator("#headline")).to_have_text("Up to date")
    await page.locator("#pause").press("Enter")
    await expect(page.locator("#headline")).to_have_text("Catching up, 14,210 events behind")


async def test_what_others_wrote_is_shown_as_text(page: Page, service: Pretended) -> None:
    evil = "<img src=x onerror=alert(1)>"
    letter = dict(HEALTHY["recent_dead_letters"][0])
    service.says = status(instance=evil, recent_dead_letters=[letter | {"key": evil, "error": evil}])
    await expect(page.locator("#letters")).to_contain_text(evil)
    await expect(page.locator("#where")).to_contain_text(evil)
    assert await page.locator("img").count() == 0


async def test_no_script_but_its_own_runs(browser: Browser, url: str) -> None:
    page = await browser.new_page()
    await page.goto(url)
    await expect(page.locator("#live")).to_have_text("live")
    ran = await page.evaluate(
        """() => { const it = document.createElement("script"); it.textContent = "window.ran = 1";
        document.body.append(it); return window.ran ?? "nothing" }"""
    )
    assert ran == "nothing"


async def test_without_a_stream_it_asks_now_and_then(browser: Browser, url: str, service: Pretended) -> None:
    page = await browser.new_page()
    await page.route("**/events", lambda route: route.fulfill(status=503))
    await page.goto(url)
    await expect(page.locator("#headline")).to_have_text("Up to date", timeout=40_000)
    service.says = BEHIND
    await expect(page.locator("#headline")).to_have_text("Catching up, 14,210 events behind", timeout=40_000)


async def test_an_open_page_keeps_nothing_from_stopping_and_says_that_it_is_over(
    browser: Browser, service: Pretended
) -> None:
    page = await browser.new_page()
    async with admin.serve("127.0.0.1", 0, service, Metrics()) as port:
        await page.goto(f"http://127.0.0.1:{port}")
        await expect(page.locator("#live")).to_have_text("live")
        began = time.monotonic()
    assert time.monotonic() - began < 10  # an open stream has no end of its own
    await expect(page.locator("#headline")).to_have_text("No answer from the service", timeout=40_000)
    async with admin.serve("127.0.0.1", port, service, Metrics()):
        await expect(page.locator("#headline")).to_have_text("Up to date", timeout=40_000)


async def test_it_costs_nothing_when_nobody_looks(browser: Browser, url: str, service: Pretended) -> None:
    pages = [await browser.new_page() for _ in range(3)]
    for page in pages:
        await page.goto(url)
        await expect(page.locator("#live")).to_have_text("live")
    asked, began = service.asked, time.monotonic()
    await pages[0].wait_for_timeout(3000)
    # Each page gets one a second, and those that are made within half a second are one.
    assert service.asked - asked <= 2 * (time.monotonic() - began) + 2
    for page in pages:
        await page.close()

    async def quiet() -> bool:
        before = service.asked
        await asyncio.sleep(2.5)
        return service.asked == before

    await wait_until(quiet, what="nothing more is made")  # the server learns that they are gone when it writes


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const flat = (colors) => {  // what a stack of colours looks like
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const node of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const grounds = [];
    for (let at = node; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(flat(grounds)), light(flat([...grounds, getComputedStyle(node).color]))];
    found.push([node.textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""
