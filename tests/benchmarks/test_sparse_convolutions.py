"""The benchmark of sparse convolutions: crossover, page, and that it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import sparse_convolutions
from benchmarks.convolution_page import COLUMNS, crossover, write_page


def line(zeros: float, gain: float, kernel: str = "fp32 4x1 fma 4x4 direct") -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "")
    row |= {"part": "layer", "case": "a layer", "batch": "8", "dtype": "fp32", "pattern": "4x1"}
    numbers = {"sparsity": f"{zeros:g}", "ms": "1", "x_torch": "2", "x_dense": f"{gain!r}"}
    return row | numbers | {"kernel": kernel, "best_dense": "torch"}


def test_crossover_of_a_time_that_is_linear_in_the_density() -> None:
    # A tenth of the dense time, and 1.5 times that for all weights: equal at a density of 0.6.
    lines = [line(zeros, 1 / (0.1 + 1.5 * (1 - zeros))) for zeros in (0.7, 0.8, 0.95)]
    assert crossover(lines) == pytest.approx(0.4)
    always = [line(zeros, 1 / (0.1 + 0.5 * (1 - zeros))) for zeros in (0.7, 0.8)]
    assert crossover(always) == 0
    assert crossover(lines[:1]) is None
    assert crossover([line(0.8, 1.0, "dense"), *lines[:1]]) is None


def test_the_page_has_every_row_and_measured_rows_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []

    def fake(row: sparse_convolutions._Row, rounds: int) -> dict[str, object]:
        seen.append(row.key())
        return {"kernel": "dense", "ms": 1.0, "x_torch": 0.5, "x_dense": 0.25}

    monkeypatch.setattr(sparse_convolutions, "_layer", fake)
    monkeypatch.setattr(sparse_convolutions, "_network", fake)
    for _ in range(2):
        assert sparse_convolutions.main(["--quick", "--out", str(tmp_path)]) == 0
    assert len(seen) == len(set(seen)) > 0
    write_page(tmp_path)
    page = (tmp_path / "convolutions.md").read_text()
    assert page.count("| dense |") == len(seen)  # losing rows stay
    assert "| 0.25 |" in page
