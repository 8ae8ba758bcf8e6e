"""The benchmark of sparse inference: its rows, its page, and that it resumes a stopped run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import sparse_inference, sparse_table
from benchmarks.sparse_rows import PARTS, rows

RATIOS = ("x_torch_fp32", "x_fp32", "x_int8")


def found(value: float) -> dict[str, Any]:
    row: dict[str, Any] = {"kernels": "some", "ms": 0.5, "load": 1.25}
    for name in RATIOS:
        row |= {name: value, f"{name}_low": value - 0.5, f"{name}_high": value + 0.5}
    return row | {"best_fp32": "torch", "best_int8": "openvino"}


def test_rows_have_different_keys_and_the_quick_ones_are_among_them() -> None:
    settings = [(1, True), (2, False)]
    every = [r for t, a in settings for r in rows(PARTS, full=True, threads=t, amx=a)]
    assert len({row.key for row in every}) == len(every)
    quick = rows(PARTS, full=False, threads=1, amx=True)
    assert {row.key for row in quick} < {row.key for row in every}
    assert {row.part for row in quick} == set(PARTS)


def test_page_marks_what_misses_and_keeps_notes(tmp_path: Path) -> None:
    layer = rows(["layer"], full=True, threads=1, amx=True)
    fp32 = next(r for r in layer if r.wanted and r.dtype == "fp32")
    int8 = next(r for r in layer if r.wanted and r.dtype == "int8")
    assert sparse_table.measured(tmp_path) == set()
    sparse_table.add(tmp_path, fp32, found(fp32.wanted["x_fp32"]))
    sparse_table.add(tmp_path, int8, found(int8.wanted["x_int8"] - 0.1))
    assert sparse_table.measured(tmp_path) == {fp32.key, int8.key}
    (tmp_path / "README.md").write_text("old\n## Notes\n\nmine\n")
    sparse_table.write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    lines = [line for line in page.splitlines() if "x best" in line and "% zeros" in line]
    assert [line.split("|")[-2].strip() for line in lines] == ["yes", "**no**"]
    assert "| 4.5 (4-5) |" in page
    assert page.endswith("## Notes\n\nmine\n")


def test_measured_rows_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def one(row: Any, given: Any) -> dict[str, object]:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(row.key)
        return found(2.0)

    monkeypatch.setattr(sparse_inference, "_one", one)
    line = ["--only", "layer", "--out", str(tmp_path), "--setting", "1", "on"]
    with pytest.raises(KeyboardInterrupt):
        sparse_inference.main(line)
    monkeypatch.setattr(
        sparse_inference, "_one", lambda row, given: seen.append(row.key) or found(2.0)
    )
    assert sparse_inference.main(line) == 0
    assert seen == [row.key for row in rows(["layer"], full=False, threads=1, amx=True)]
    assert len(pd.read_csv(tmp_path / "results.csv")) == len(seen)


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_amx_can_be_refused_to_a_process() -> None:
    code = """
import ctypes
from benchmarks.no_amx import forbid_amx
forbid_amx()
call = ctypes.CDLL(None, use_errno=True).syscall
print(call(158, 0x1023, 18), ctypes.get_errno(), call(39) > 0)  # arch_prctl; getpid
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
print([isa.dot for isa in usable_isas()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "-1 1 True"
    assert "amx" not in second
