from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.what_works.row import Row, rows
from ws_learner import UserError

ROOT = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.what)
def test_works_or_is_refused_with_its_line(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if row.refused is None:
        row.run(tmp_path)
        return
    with pytest.raises(UserError) as caught:
        row.run(tmp_path)
    assert row.refused in str(caught.value)


def test_the_page_is_made_from_the_rows() -> None:
    page = subprocess.run(
        [sys.executable, "docs/build_what_works.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert page.returncode == 0, page.stdout + page.stderr


def test_no_row_is_there_twice() -> None:
    names = [row.what for row in rows()]
    assert len(names) == len(set(names))
