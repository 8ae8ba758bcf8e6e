"""The script that compiles one layer again and again."""

from __future__ import annotations

import pytest

from benchmarks import trial_stability


@pytest.mark.long
def test_every_compilation_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial_stability, "_LAYERS", (("fp32", (4, 1), (64, 32), 8),))
    assert trial_stability.main(["--times", "3", "--busy", "0"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    name, _, kernels = line.partition(": ")
    assert name == "8 x 32 to 64, fp32 4x1"
    assert sum(int(part.rpartition(": ")[2]) for part in kernels.split(", ")) == 3
