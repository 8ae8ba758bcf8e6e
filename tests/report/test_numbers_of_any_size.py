"""Numbers of a run's side files, of any size."""

from __future__ import annotations

from ws_learner.report.html.side_files import plain


def test_what_is_no_finite_number_is_left_out() -> None:
    assert plain(3) == 3.0
    assert plain(-0.5) == -0.5
    for wrong in (10**400, -(10**400), float("nan"), float("inf"), True, "3", None):
        assert plain(wrong) is None
