"""Every file of docs/examples runs as it stands and ends with an exactly sparse network."""

from __future__ import annotations

import ast
import inspect
import json
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_prunes_to_the_ratio_it_asks_for(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(path))
    dense, result = left["model"], left["result"]
    assert type(result.model) is type(dense)
    sparse, before = result.model.state_dict(), dense.state_dict()
    assert sparse.keys() == before.keys()
    layers = result.ratios["layer"]
    zeros = sum(int((sparse[name] == 0).sum()) for name in layers)
    assert zeros == round(0.8 * sum(sparse[name].numel() for name in layers))
    assert not any(bool((before[name] == 0).any()) for name in layers)  # it stays as it was
    assert all(bool(torch.isfinite(tensor).all()) for tensor in sparse.values())
    assert math.isfinite(result.summary["sparse_metric"])
    assert result.summary["measured_on"] == ("test" if "test" in left else "validation")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short_and_listed(path: Path) -> None:
    lines = path.read_text().split("torch.manual_seed(0)\n")[1].splitlines()
    assert len(lines) <= 22
    assert f"({path.name})" in (FOLDER / "README.md").read_text()
    assert inspect.cleandoc(path.read_text()).startswith('"""')


def cells(kind: str) -> list[dict[str, Any]]:
    book = json.loads((FOLDER / "first_steps.ipynb").read_text())
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


@pytest.mark.long
def test_the_notebook_runs_and_its_kept_outputs_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells run without Jupyter; only the class that shows a picture stands in."""
    shown: list[str] = []
    stand_in = SimpleNamespace(SVG=lambda *, filename: shown.append(filename))
    about = {"version_info": (9, 0), "get_ipython": lambda: None}  # matplotlib asks
    package = SimpleNamespace(display=stand_in, **about)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in)
    monkeypatch.chdir(tmp_path)
    left: dict[str, Any] = {}
    for cell in cells("code"):
        exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), left)
    layers = left["result"].ratios
    weights, zeros = layers["weights"].sum(), sum(left["zeros"].values())
    assert zeros == round(0.8 * weights)
    assert shown == ["first_steps.svg"]
    assert f"{left['summary']['sparse_accuracy']:.2%}".endswith("%")
    page = (tmp_path / "first_steps.html").read_text()
    assert page.startswith("<!doctype html>")
    assert len(page) < 1_000_000
    # What the file keeps was printed by such a run: the same number of zeros.
    kept = "".join("".join(o.get("data", {}).get("text/plain", ())) for o in outputs())
    listed = ast.literal_eval("{" + kept.partition("{")[2].partition("}")[0] + "}")
    assert listed.keys() == left["zeros"].keys()
    assert sum(listed.values()) == zeros


def outputs() -> list[dict[str, Any]]:
    return [output for cell in cells("code") for output in cell["outputs"]]


def test_the_notebook_is_small_whole_and_of_no_machine() -> None:
    text = (FOLDER / "first_steps.ipynb").read_text()
    assert len(text) < 60_000
    assert "/tmp" not in text
    assert "/home" not in text
    assert "Traceback" not in text
    assert all(cell["execution_count"] for cell in cells("code"))
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs())
    assert "(first_steps.ipynb)" in (FOLDER / "README.md").read_text()
