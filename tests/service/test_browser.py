"""A whole run in a browser: started, watched, stopped, resumed, compared, downloaded.

Needs playwright and a Chromium; where one is missing the tests are skipped and say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browser, picture, rewards
from tests.support.report_runs import write_run
from tests.support.served import Served, served, until
from tests.support.service import made_run
from ws_learner.report import write_html

__all__ = ["browser"]

pytestmark = pytest.mark.slow  # a minute on two free cores; pytest -m slow tests/service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    made_run(tmp_path / "runs", "earlier")
    with served(tmp_path / "runs") as running:
        yield running


def test_a_run_from_start_to_download(browser: Any, service: Served, tmp_path: Path) -> None:
    context = browser.new_context(accept_downloads=True, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(240_000)
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))

    page.goto(service.address)  # without the token
    assert page.locator("input[name=token]").is_visible()
    assert "earlier" not in page.content()
    said.clear()
    page.goto(f"{service.address}?token={service.token}")
    assert page.url == service.address  # the token has left the address
    assert "token" not in page.evaluate("document.cookie")

    page.get_by_role("link", name="New run").first.click()
    page.fill("input[name=prune_ratio]", "0.8")
    page.fill("input[name=rollouts]", "300")
    page.fill("input[name=epochs]", "2")
    page.fill("input[name=pattern]", "4x9z")
    page.click("button[value=check]")
    page.wait_for_selector("p.problem")
    assert "--pattern 4x9z: no such pattern" in page.inner_text("main")
    page.fill("input[name=pattern]", "")
    page.click("button[value=check]")
    page.wait_for_selector("pre.command")
    assert "--prune_ratio=0.8 --num_rollouts=300 --nb_epochs=2" in page.inner_text("pre.command")
    assert "unknown: no earlier run" in page.inner_text("main")
    picture(page, "new")
    said.clear()  # a refused form is an error line of the browser
    page.click("button[value=start]")
    page.wait_for_url("**/view/*")

    page.wait_for_selector("svg.chart circle.dot")
    before = rewards(page)
    until(lambda: rewards(page) > before)
    assert "of 6" in page.inner_text(".phases")
    picture(page, "live")

    page.click("text=Stop")
    page.wait_for_selector("text=Resume")
    assert page.inner_text(".facts .state") == "stopped"
    stopped = rewards(page)
    page.click("text=Resume")
    page.wait_for_selector("button.danger")
    until(lambda: rewards(page) > stopped)

    # The page follows the run to its end by itself.
    run = page.url.rpartition("/")[2]
    page.wait_for_selector("text=Download the model", timeout=600_000)
    assert page.inner_text(".facts .state") == "finished"
    with page.expect_download() as download:
        page.click("text=Download the model")
    saved = tmp_path / "model.safetensors"
    download.value.save_as(saved)
    assert saved.read_bytes() == (tmp_path / "runs" / run / "model.safetensors").read_bytes()
    picture(page, "finished")

    page.goto(service.address)
    picture(page, "list")
    page.set_viewport_size({"width": 1400, "height": 900})
    for name in (run, "earlier"):
        page.check(f"input[value='{name}']")
    page.click("text=Compare the ticked runs")
    heads = page.inner_text("main table thead >> nth=0")
    assert run in heads
    assert "earlier" in heads
    picture(page, "compare")
    assert [one for one in said if not re.search("favicon", one)] == []
    context.close()


def test_a_report_works_in_the_sandbox(browser: Any, service: Served, tmp_path: Path) -> None:
    """Its own script sorts and copies, parts fold, figures are there; nothing else is allowed."""
    run = write_run(tmp_path / "runs" / "reported", rollouts=40)
    write_html(run, run / "report.html")
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))
    page.goto(f"{service.address}?token={service.token}")
    said.clear()
    answer = page.goto(f"{service.address}runs/reported/report.html")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert page.evaluate("self.origin") == "null"  # none of the service's rights

    table = page.locator("table").first
    table.locator("th [role=button]").nth(3).click()
    cells = table.locator("tbody td:nth-child(4)").all_text_contents()
    weights = [int(cell.replace(",", "")) for cell in cells]
    assert len(weights) > 1
    assert weights == sorted(weights, reverse=True)
    opened = page.locator("details[open]").count()
    folded = page.locator("details:not([open])").first
    folded.locator("summary").click()
    assert page.locator("details[open]").count() == opened + 1
    figures = page.locator("figure svg")
    assert figures.count() > 1
    for figure in figures.all():
        assert figure.bounding_box()["height"] > 50
    picture(page, "report")
    assert said == []
    # It cannot ask the service, though the browser has the cookie.
    asked = "a => fetch(a, {credentials: 'include'}).then(r => r.text(), () => 'blocked')"
    assert page.evaluate(asked, f"{service.address}runs") == "blocked"
    context.close()


def test_another_site_can_do_nothing(browser: Any, service: Served) -> None:
    """A page of another origin in the same browser, which has the cookie."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{service.address}?token={service.token}")
    page.goto("data:text/html,<title>elsewhere</title>")
    form = (
        f"<form method=post action='{service.address}new'><input name=experiment "
        "value='tiny_experiment.py'><input name=action value=start></form>"
    )
    page.set_content(form)
    with page.expect_navigation():
        page.evaluate("document.forms[0].submit()")
    assert "refused" in page.content()
    page.goto("data:text/html,<title>elsewhere</title>")
    told = page.evaluate(
        "a => fetch(a, {credentials: 'include'}).then(r => r.text(), () => 'blocked')",
        f"{service.address}runs",
    )
    assert told == "blocked"
    assert [row["id"] for row in service.ask("GET", "/runs")] == ["earlier"]
    context.close()
