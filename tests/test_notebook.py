"""The notebook runs in a real Jupyter kernel; `test_examples.py` looks at what it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "docs" / "examples" / "first_steps.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_in_jupyter(tmp_path: Path) -> None:
    pytest.importorskip("nbmake", reason="nbmake is not installed; pip install -e '.[notebook]'")
    book = shutil.copy(BOOK, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbmake", "--nbmake-timeout=900", book],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(BOOK.parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert (tmp_path / "first_steps.html").stat().st_size < 1_000_000
