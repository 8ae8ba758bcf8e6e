"""Every file of docs/examples runs as it stands and ends with an exactly sparse network."""

from __future__ import annotations

import inspect
import math
import runpy
from pathlib import Path

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
