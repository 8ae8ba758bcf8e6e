"""What Ray is told through the environment before it starts."""

from __future__ import annotations

import os

import pytest

from ws_learner.training.ray import env_vars
from ws_learner.training.ray.env_vars import prepare
from ws_learner.training.ray.session import _token_text

EVENTS = "RAY_task_events_report_interval_ms"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_AUTH_MODE": "disabled"})


@pytest.mark.parametrize(
    ("local", "dashboard", "kept"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_past_tasks_are_kept_only_where_a_dashboard_may_show_them(
    local: bool, dashboard: bool, kept: bool
) -> None:
    prepare(local=local, dashboard=dashboard)
    assert os.environ.get(EVENTS) == (None if kept else "0")  # "0" switches them off in Ray


def test_what_the_user_has_set_stays() -> None:
    os.environ |= {EVENTS: "500", "RAY_DEDUP_LOGS": "1"}
    prepare(local=True)
    assert os.environ[EVENTS] == "500"
    assert os.environ["RAY_DEDUP_LOGS"] == "1"
    assert os.environ.keys() >= env_vars._QUIET.keys()


@pytest.mark.parametrize(
    ("mode", "token", "text"),
    [
        ("token", "abc", ", token abc"),
        ("token", None, "`ray get-auth-token`"),
        ("disabled", "abc", None),
        (None, None, None),
    ],
)
def test_the_dashboards_line_says_which_token_it_wants(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, token: str | None, text: str | None
) -> None:
    for name, value in (("RAY_AUTH_MODE", mode), ("RAY_AUTH_TOKEN", token)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    said = _token_text()
    assert (text in said) if text else (said == "")
