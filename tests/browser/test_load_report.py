"""The load test's page in a real browser: it fits, shows its plots, and fetches nothing."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser

from consumer.loadtest import html
from consumer.loadtest.figures import report
from tests.unit.loadtest.runs import RECORDS, right_run


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
async def test_the_page_fits_and_needs_nothing_else(
    browser: Browser, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(report(right_run(records=RECORDS[:-3])), report(right_run())), encoding="utf-8")
    page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.locator(".verdict").inner_text() == (
        "It does NOT hold (2 of 3 events done).\n1 of 3 events were not answered by a sync that began after them\n"
        "the program and what it acted on disagree: syncs that wrote: 3 and 2"
    )
    boxes = [await figure.bounding_box() for figure in await page.locator("svg").all()]
    assert len(boxes) == 6
    assert all(box is not None and box["width"] > 250 and box["x"] + box["width"] <= width for box in boxes)
