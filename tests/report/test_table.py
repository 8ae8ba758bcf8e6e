"""The ratio table counts what is there, and reads back what it wrote."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.problem import LayerRow
from ws_learner.core.errors import UserError
from ws_learner.report.table import (
    COLUMNS,
    ratio_table,
    read_ratios,
    read_table,
    to_csv,
    totals,
)


def _layer(name: str, shape: tuple[int, ...], *, places: int = 1, exempt: bool = False) -> LayerRow:
    weights = int(np.prod(shape))
    return LayerRow(
        name=name,
        kind="conv2d" if len(shape) == 4 else "linear",
        role="conv" if len(shape) == 4 else "head",
        shape=shape,
        weights=weights,
        macs=weights * places,
        exempt=exempt,
    )


LAYERS = (
    _layer("conv1.weight", (16, 3, 3, 3), places=1024),
    _layer("layer1.0.conv1.weight", (16, 16, 3, 3), places=256),
    _layer("fc.weight", (10, 7)),
)


def _tensor(shape: tuple[int, ...], zeros: int) -> torch.Tensor:
    values = np.ones(int(np.prod(shape)), dtype=np.float32)
    values[np.random.default_rng(zeros).permutation(values.size)[:zeros]] = 0.0
    return torch.from_numpy(values.reshape(shape))


def _table(planned: list[int], found: list[int]):
    state = {row.name: _tensor(row.shape, n) for row, n in zip(LAYERS, found, strict=True)}
    return ratio_table(LAYERS, np.array(planned), state)


def test_planned_and_achieved_come_from_their_own_source():
    planned, found = [100, 2000, 0], [101, 1999, 35]
    frame = _table(planned, found)
    assert tuple(frame.columns) == COLUMNS
    for row, layer, plan, count in zip(frame.itertuples(), LAYERS, planned, found, strict=True):
        assert row.layer == layer.name
        assert row.prune_ratio == plan / layer.weights
        assert row.achieved == count / layer.weights
        exact = layer.macs * (1 - Fraction(count, layer.weights))
        assert abs(row.macs_kept - exact) <= Fraction(1, 2)
    assert frame["shape"].tolist() == ["16x3x3x3", "16x16x3x3", "10x7"]


def test_negative_zero_is_a_zero_and_nan_is_not():
    layer = _layer("w", (4,))
    state = {"w": torch.tensor([0.0, -0.0, float("nan"), 1e-45])}
    assert ratio_table((layer,), np.array([2]), state)["achieved"].tolist() == [0.5]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_totals_recover_the_exact_counts(data: st.DataObject):
    sizes = data.draw(st.lists(st.integers(1, 3000), min_size=1, max_size=5))
    zeros = [data.draw(st.integers(0, size)) for size in sizes]
    layers = tuple(_layer(f"l{i}", (size,), places=3) for i, size in enumerate(sizes))
    state = {row.name: _tensor(row.shape, n) for row, n in zip(layers, zeros, strict=True)}
    total = totals(ratio_table(layers, np.array(zeros), state))
    assert total["weights"] == sum(sizes)
    assert total["zeros"] == sum(zeros)
    assert total["achieved_prune_ratio"] == sum(zeros) / sum(sizes)
    assert total["dense_macs"] == 3 * sum(sizes)
    assert total["kept_macs"] == 3 * (sum(sizes) - sum(zeros))


def test_a_missing_or_misshapen_tensor_is_refused():
    state = {row.name: torch.ones(row.shape) for row in LAYERS}
    zeros = np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match=r"no fc\.weight"):
        ratio_table(LAYERS, zeros, {k: v for k, v in state.items() if k != "fc.weight"})
    with pytest.raises(ValueError, match=r"fc\.weight is \(7, 10\)"):
        ratio_table(LAYERS, zeros, {**state, "fc.weight": torch.ones(7, 10)})
    with pytest.raises(ValueError, match="2 zero counts for 3 layers"):
        ratio_table(LAYERS, zeros[:2], state)


def test_csv_text_is_stable_and_loses_nothing(tmp_path: Path):
    frame = _table([144, 769, 23], [144, 769, 23])
    text = to_csv(frame)
    assert text == to_csv(_table([144, 769, 23], [144, 769, 23]))
    assert "\r" not in text
    assert text.endswith("\n")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["prune_ratio"] for row in rows] == [
        repr(144 / 432),
        repr(769 / 2304),
        repr(23 / 70),
    ]
    (tmp_path / "ratios.csv").write_text(text)
    back = read_table(tmp_path / "ratios.csv")
    assert back.to_dict("list") == frame.to_dict("list")
    assert to_csv(back) == text


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_another_run_reads_the_very_counts(tmp_path_factory, data: st.DataObject):
    zeros = [data.draw(st.integers(0, row.weights)) for row in LAYERS]
    path = tmp_path_factory.mktemp("given") / "ratios.csv"
    path.write_text(to_csv(_table(zeros, [0, 0, 0])))
    read = read_ratios(path, LAYERS)
    assert read.dtype == np.int64
    assert read.tolist() == zeros


def test_a_file_written_by_hand_does(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_bytes(
        b"\xef\xbb\xbfprune_ratio, layer\r\n0, fc.weight\r\n\r\n1, conv1.weight\r\n"
        b"0.3333, layer1.0.conv1.weight\r\n"
    )
    assert read_ratios(path, LAYERS).tolist() == [432, round(0.3333 * 2304), 0]


GOOD = "layer,prune_ratio\nconv1.weight,0.5\nlayer1.0.conv1.weight,0.5\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["line 1", "no column layer", "found none"]),
        ("layer,rank\nconv1.weight,0.5\n", ["line 1", "no column prune_ratio", "layer, rank"]),
        ("layer,prune_ratio,layer\n", ["line 1", "column layer", "twice"]),
        (GOOD + "fc.wieght,0.5\n", ["line 4", "'fc.wieght'", "did you mean fc.weight"]),
        (GOOD + "conv1.weight,0.5\n", ["line 4", "conv1.weight", "listed twice"]),
        (GOOD + "fc.weight,1.0001\n", ["line 4", "fc.weight", "'1.0001'", "from 0 to 1"]),
        (GOOD + "fc.weight,-0.1\n", ["line 4", "'-0.1'", "from 0 to 1"]),
        (GOOD + "fc.weight,nan\n", ["line 4", "'nan'", "from 0 to 1"]),
        (GOOD + "fc.weight,inf\n", ["line 4", "'inf'", "from 0 to 1"]),
        (GOOD + "fc.weight,75%\n", ["line 4", "'75%'", "from 0 to 1"]),
        (GOOD + "fc.weight\n", ["line 4", "fc.weight", "''", "from 0 to 1"]),
        (GOOD + '"fc.weight,0.5\n', ["not a CSV text file", "ratios.csv"]),
    ],
)
def test_bad_ratios_are_named_in_one_line(tmp_path: Path, text: str, says: list[str]):
    path = tmp_path / "ratios.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_ratios(path, LAYERS)
    message = str(caught.value)
    assert "\n" not in message
    for part in ["`ws_ratios`", str(path), *says]:
        assert part in message


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    (tmp_path / "binary.csv").write_bytes(b"\x80\x04\x95\x00")
    for name, says in [
        ("none.csv", "No such file"),
        (".", "Is a directory"),
        ("binary.csv", "not a CSV"),
    ]:
        with pytest.raises(UserError, match=f"`ws_ratios` .*{says}") as caught:
            read_ratios(tmp_path / name, LAYERS)
        assert "\n" not in str(caught.value)


def test_an_exempt_layer_may_only_be_given_zero(tmp_path: Path):
    layers = (_layer("a", (4,)), _layer("b", (4,), exempt=True))
    path = tmp_path / "ratios.csv"
    path.write_text("layer,prune_ratio\na,0.5\nb,0\n")
    assert read_ratios(path, layers).tolist() == [2, 0]
    path.write_text("layer,prune_ratio\na,0.5\nb,0.5\n")
    with pytest.raises(UserError, match="line 3: layer b is exempt"):
        read_ratios(path, layers)
