"""`report.html`: a run's report as one page that needs no other file and no network."""

from __future__ import annotations

from ws_learner.report.html.page import write_html

__all__ = ["write_html"]
