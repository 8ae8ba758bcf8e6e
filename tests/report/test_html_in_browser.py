"""`report.html` in Chromium: nothing overflows or is fetched, tables sort, also without script.

`python -m pytest -m slow tests/report/test_html_in_browser.py`; needs playwright for Python and a
Chromium on the path.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.report_runs import write_run
from ws_learner.report import write_html

pytestmark = pytest.mark.slow
NAMES = [f"encoder.layers.{n}.self_attention.output_projection.weight" for n in range(24)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium")
    with api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("runs") / "one", names=NAMES, rollouts=60)
    write_html(run, run / "report.html")
    return run / "report.html"


@pytest.mark.parametrize("width", [320, 390, 820, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_and_is_quiet(browser: Any, page: Path, width: int, scheme: str) -> None:
    view = {"width": width, "height": 900}
    with browser.new_context(viewport=view, color_scheme=scheme) as context:
        tab = context.new_page()
        said: list[str] = []
        fetched: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: fetched.append(request.url))
        tab.goto(page.as_uri())
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(wide) == 0
        assert said == []
        assert fetched == [page.as_uri()]
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        for svg in tab.locator("figure svg").all():
            box = svg.bounding_box()
            assert box["width"] <= width
            for label in svg.locator("text").all():  # no label is cut off at the edge
                own = label.bounding_box()
                assert own["x"] >= box["x"] - 4, label.text_content()
                assert own["x"] + own["width"] <= box["x"] + box["width"] + 8


def test_tables_sort_by_numbers_and_back(browser: Any, page: Path) -> None:
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(page.as_uri())
        table = tab.locator("table").first
        heads = table.locator("th [role=button]")

        def column(place: int) -> list[str]:
            cells = table.locator(f"tbody td:nth-child({place + 1})").all_text_contents()
            return [cell.strip() for cell in cells]

        before = column(0)
        heads.nth(3).click()
        weights = [int(cell.replace(",", "")) for cell in column(3)]
        assert weights == sorted(weights, reverse=True)
        heads.nth(3).press("Enter")
        assert [int(cell.replace(",", "")) for cell in column(3)] == sorted(weights)
        heads.nth(0).click()
        assert column(0) == before  # by forward order, not by name


def test_a_page_without_script_is_whole(browser: Any, page: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(page.as_uri())
        assert tab.locator("[role=button], button").count() == 0
        assert tab.locator("table").first.locator("tbody tr").count() == len(NAMES)
