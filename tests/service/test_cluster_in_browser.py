"""The live page of a run on a Ray cluster, in a browser: it moves, is stopped, resumed, finished.

Needs playwright and a Chromium; where one is missing the test is skipped and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browser, picture, rewards
from tests.support.ray_hosts import head
from tests.support.served import served, until

__all__ = ["browser"]

pytestmark = [pytest.mark.slow, pytest.mark.ray]  # two minutes on two free cores


def test_a_run_on_a_cluster_is_watched_stopped_and_resumed(browser: Any, tmp_path: Path) -> None:
    storage = tmp_path / "shared"
    context = browser.new_context(accept_downloads=True, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(300_000)
    with (
        head(cpus=2, RAY_AUTH_MODE="disabled") as (dashboard, _),
        served(storage, cluster=dashboard) as service,
    ):
        page.goto(f"{service.address}?token={service.token}")
        page.get_by_role("link", name="New run").first.click()
        page.fill("input[name=prune_ratio]", "0.8")
        page.fill("input[name=rollouts]", "300")
        page.fill("input[name=epochs]", "2")
        page.fill("input[name=workers]", "1")
        page.click("button[value=start]")
        page.wait_for_url("**/view/*")
        page.wait_for_selector("svg.chart circle.dot")
        before = rewards(page)
        until(lambda: rewards(page) > before)
        picture(page, "cluster")

        page.click("text=Stop")
        page.wait_for_selector("text=Resume")
        assert page.inner_text(".facts .state") == "stopped"
        stopped = rewards(page)
        page.click("text=Resume")
        page.wait_for_selector("button.danger")
        until(lambda: rewards(page) > stopped)

        page.wait_for_selector("text=Download the model", timeout=600_000)
        assert page.inner_text(".facts .state") == "finished"
        run = page.url.rpartition("/")[2]
        with page.expect_download() as download:
            page.click("text=Download the model")
        saved = tmp_path / "model.safetensors"
        download.value.save_as(saved)
        assert saved.read_bytes() == (storage / run / "model.safetensors").read_bytes()
        rows = service.ask("GET", "/runs")
        assert [row["state"] for row in rows if row["id"] == run] == ["finished"]
    context.close()
