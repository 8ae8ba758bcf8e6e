from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import dense_epoch, mask_overhead
from benchmarks.paired import paired


class Clock:
    """Time passes only in the work, and the machine gets slower all the while."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, ""

    def work(self, name: str, seconds: float) -> None:
        self.order += name
        self.now += seconds * 1.01 ** len(self.order)


def test_order_alternates_and_drift_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    result = paired(lambda: clock.work("a", 3.0), lambda: clock.work("b", 2.0), rounds=6, warmup=1)
    assert clock.order == "ab" + "baab" * 3
    assert len(result.ratios) == 6
    # Half of the pairs are off by 1 % one way, half the other way.
    assert result.median == pytest.approx(1.5, rel=1e-3)
    assert (result.low, result.high) == (pytest.approx(1.5 / 1.01), pytest.approx(1.5 * 1.01))


@pytest.mark.parametrize("setting", [{"rounds": 1}, {"warmup": -1}])
def test_too_few_rounds_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        paired(lambda: None, lambda: None, **setting)


def test_mask_overhead_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "overhead.json"
    code = mask_overhead.main(["--rounds", "2", "--batch", "2", "--out", str(out)])
    found = json.loads(out.read_text())
    every = found["mask_update_step"]
    plain, update = found["without_update"]["median"], found["update_every_step"]["median"]
    assert found["amortised"] == pytest.approx(plain + (update - plain) / every)
    assert code == int(found["amortised"] > 1.05)
    assert f"{found['amortised']:.3f}x" in capsys.readouterr().out


def test_dense_epoch_times_the_recipes_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert dense_epoch.main(["--rounds", "2", "--steps", "10", "--batch", "2"]) == 0
    assert "x faster" in capsys.readouterr().out
