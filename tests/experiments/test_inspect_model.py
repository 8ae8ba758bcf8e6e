"""`python -m experiments.inspect_model`: the table of a saved network, and files that are none."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from experiments.inspect_model import main as inspect
from ws_learner.core.weights import save_model


def test_inspect_tells_zeros_and_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = torch.ones(8, 6)
    weight[:4, 0] = 0  # a block of four outputs
    weight[6, 2] = 0  # a single zero in another
    weight[1] = torch.tensor([0.0, 0.0, 0.5, 2.0, 1.0, 1.0])
    save_model(tmp_path / "m.safetensors", {"a.weight": weight, "a.bias": torch.zeros(8)}, {})
    assert inspect([str(tmp_path / "m.safetensors"), "--pattern", "4x1", "--csv"]) == 0
    (tmp_path / "m.csv").write_text(capsys.readouterr().out)
    frame = pd.read_csv(tmp_path / "m.csv").set_index("name")
    row, values = frame.loc["a.weight"], weight.double().numpy()
    assert (row["shape"], row["zeros"], row["sparsity"]) == ("8x6", 6, 6 / 48)
    assert row["block_sparsity"] == 1 / 12
    assert row["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert row["std"] == pytest.approx(values.std(), rel=1e-12)
    assert np.isnan(frame.loc["a.bias", "block_sparsity"])
    assert inspect([str(tmp_path / "m.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "all: 14 of 56 values are zero (25.00%) in 2 tensors" in text
    assert "matrices and kernels: 6 of 48 values are zero (12.50%) in 1 tensors" in text
    assert inspect([str(tmp_path / "none.safetensors")]) == 2
    assert "no such file" in capsys.readouterr().err


def weights() -> dict[str, torch.Tensor]:
    weight = torch.ones(8, 4)
    weight[:4, 1] = 0
    return OrderedDict({"a.weight": weight, "steps": torch.tensor(7)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: weights(),
        lambda: {"state_dict": weights(), "epoch": 3},
        lambda: {"model": weights(), "optimizer": {"lr": 0.1}},
    ],
    ids=["plain", "state_dict", "model"],
)
def test_a_plain_pytorch_file(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(make(), tmp_path / "m.pt")
    assert inspect([str(tmp_path / "m.pt"), "--pattern", "tile_pattern_4x1", "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert (found["zeros"], found["sparsity"], found["block_sparsity"]) == ("4", "0.125", "0.125")


def test_a_run_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "model.safetensors", weights(), {})
    assert inspect([str(tmp_path), "--pattern", "2x1"]) == 0
    assert "all: 4 of 32 values are zero (12.50%) in 1 tensors" in capsys.readouterr().out


def test_check_says_which_tensors_hold_the_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = torch.tensor([1.0, 0, 0, 2]).repeat(4, 2)  # 2:4 along each row
    broken = kept.clone()
    broken[3, 5] = 1.0  # one group has a single zero
    block = torch.ones(8, 4)
    block[:4, 1] = 0
    state = {"a.weight": kept, "b.weight": torch.ones(4, 8), "b.bias": torch.zeros(4)}
    file = str(tmp_path / "m.safetensors")
    save_model(Path(file), state | {"c.weight": broken, "d.weight": block}, {})

    def check(*words: str) -> tuple[int, str]:
        code = inspect([file, "--check", *words])
        return code, capsys.readouterr().err

    assert check("--pattern", "2:4", "--only", "a.*", "b.*") == (
        0,
        "pattern 2:4: 1 of 1 tensors hold it\n",
    )
    code, told = check("--pattern", "2:4", "--only", "[abc].*")
    assert (code, "1 of 2 tensors hold it, not c.weight" in told) == (1, True)
    assert check("--pattern", "4x1", "--only", "d.*")[0] == 0
    block[4, 2] = 0  # part of another block
    save_model(Path(file), {"b.weight": torch.ones(4, 8), "d.weight": block}, {})
    assert check("--pattern", "4x1")[0] == 1
    assert check("--pattern", "4x1", "--only", "b.*")[0] == 1  # nothing is pruned
    assert check("--pattern", "4x1", "--only", "e.*")[0] == 2
    assert check()[0] == 2
    assert inspect([file, "--pattern", "4x1"]) == 0  # only --check judges


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run!",)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("m.pt", nn.Linear(2, 2), "not a state_dict that loads without running code"),
        ("m.pt", {"w": Evil()}, "not a state_dict that loads without running code"),
        ("m.pt", [1, 2], "holds a list, not a state_dict"),
        ("m.pt", torch.ones(3), "holds a Tensor, not a state_dict"),
        ("m.pt", {"w": torch.ones(2), "lr": 0.1}, "'lr' is a float, not a tensor"),
        ("m.txt", b"some words", "not a state_dict that loads without running code"),
        ("m.pt", b"", "not a state_dict that loads without running code"),
        ("m.safetensors", b"some words", "not a valid safetensors file"),
        ("none.pt", None, "none.pt: no such file"),
        ("", None, "model.safetensors: no such file"),
    ],
)
def test_foreign_files(
    name: str, content: Any, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    assert inspect([str(file)]) == 2
    out, err = capsys.readouterr()
    assert part in err
    assert len(err.strip().splitlines()) == 1
    assert "run!" not in out


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("units", "--pattern units: a file of weights does not tell"),
        ("mha", "does not tell how many heads"),
        ("4by1", "--pattern 4by1: no such"),
    ],
)
def test_patterns_that_cannot_be_counted(
    pattern: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "m.safetensors", weights(), {})
    assert inspect([str(tmp_path / "m.safetensors"), "--pattern", pattern]) == 2
    assert part in capsys.readouterr().err
