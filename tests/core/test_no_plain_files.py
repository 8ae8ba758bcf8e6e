"""What stands in place of a file: a folder or a pipe is one line, not a traceback or a wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ws_learner import UserError
from ws_learner.core import RunDir, read_json


def test_a_folder_in_place_of_a_result(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.ratios.write_text("layer\n")
    run.finish({"method": "gradual"})
    run.ratios.unlink()
    run.ratios.mkdir()
    with pytest.raises(UserError, match=r"ratios\.csv: is no file"):
        run.read_summary()
    run.ratios.rmdir()
    os.mkfifo(run.ratios)
    with pytest.raises(UserError, match=r"ratios\.csv: is no file"):
        run.read_summary()


def test_a_pipe_in_place_of_a_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match="is a pipe"):
        read_json(tmp_path / "a.json")
