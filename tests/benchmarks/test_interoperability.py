"""The tables of `benchmarks.interoperability` and `benchmarks.optimizers_and_masks`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.interoperability import SCRIPTS, TOOLS, write
from benchmarks.optimizers_and_masks import Line, measure, table


def row(tool: str, answer: str) -> dict[str, str]:
    return {"tool": tool, "input": "a", "question": "loads", "answer": answer}


def test_rows_of_other_tools_stay(tmp_path: Path) -> None:
    write([row("one 1.0", "yes"), row("two 1.0", "yes")], tmp_path)
    write([row("two 2.0", "no")], tmp_path)
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = [(line["tool"], line["answer"]) for line in csv.DictReader(file)]
    assert found == [("one 1.0", "yes"), ("two 2.0", "no")]
    assert len((tmp_path / "rows.md").read_text().splitlines()) == 2 + 2


def test_every_tool_has_a_script_and_pinned_versions() -> None:
    assert {path.stem for path in SCRIPTS.glob("try_*.py")} == {f"try_{tool}" for tool in TOOLS}
    assert all("==" in requirement for needs in TOOLS.values() for requirement in needs)


class Restless(torch.optim.SGD):
    """Moves every weight in `eval`."""

    def train(self) -> None:
        """Nothing to put back."""

    @torch.no_grad()
    def eval(self) -> None:
        for weight in self.param_groups[0]["params"]:
            weight.add_(1.0)


@pytest.mark.parametrize("method", ["gradual", "pattern_lock", "srste"])
def test_lost_zeros_are_counted(method: str) -> None:
    line = measure("mine", Restless, method, closure=False)
    exact: dict[str, Any] = {"in_training": "exact", "after_finalize": "exact"}
    assert line == Line(
        "mine", "Restless", method, **exact, after_eval="0 of 64", mask_copy="exact"
    )


def test_optimizers_that_are_alike_share_a_row() -> None:
    lines = [
        Line("torch", name, method, "exact" if name != "C" or method == "gradual" else "1 of 64")
        for name in "ABC"
        for method in ("gradual", "srste")
    ]
    text = table(lines).splitlines()[2:]
    assert text[0].startswith("| A (torch), B (torch) |")
    assert [line.split(" | ")[1] for line in text[1:]] == ["gradual", "srste"]
