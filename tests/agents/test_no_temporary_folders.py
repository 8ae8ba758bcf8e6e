"""An agent leaves no folder in the system's place for temporary ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from agents.ddpg_agent import DDPGAgent


def test_an_agent_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert tempfile.gettempdir() == str(tmp_path)
    action = DDPGAgent(3).act(np.zeros(3, np.float32), explore=False)
    assert -1 <= action <= 1
    assert not list(tmp_path.glob("SB3*"))
