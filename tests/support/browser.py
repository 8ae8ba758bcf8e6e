"""A Chromium for tests of pages, and what they look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["browser", "picture", "rewards"]

SHOTS = os.environ.get("WS_SCREENSHOTS")
"""A folder for pictures of the pages."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def picture(page: Any, name: str) -> None:
    """Pictures at the width of a phone and of a screen, where they were asked for."""
    for width in (390, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name}: {wide} pixels at {width}"
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)


def rewards(page: Any) -> int:
    """Dots of the reward curve."""
    return int(page.locator("svg.chart circle.dot").count())
