"""Sensitivities against layers that are pruned, refitted and run by hand."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ws_learner import DataSplits, UserError, WeightSparseConfig, sensitivity
from ws_learner.data import without_targets
from ws_learner.search.sensitivity_table import Sensitivity

RATIOS, PLACES = (0.5, 0.75), (0, 2, 4)
TRAIN, HELD = 96, 40
CONFIG = WeightSparseConfig(ws_nb_smpls_rg=TRAIN)  # the whole training split, in any order


class Rows:
    """A split of given rows, in the order of the file."""

    def __init__(self, x: Tensor, targets: Tensor) -> None:
        self.x, self.targets = x, targets

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        parts = list(zip(self.x.split(batch_size), self.targets.split(batch_size), strict=True))
        yield from parts[skip:]


def inputs() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    return torch.randn(TRAIN, 12, generator=draw), torch.randn(HELD, 12, generator=draw)


def splits(*, labels: bool = True, classes: int = 4) -> DataSplits:
    train, held = inputs()

    def rows(x: Tensor) -> Rows:
        return Rows(x, torch.arange(len(x)) % 4 if labels else without_targets(len(x)))

    return DataSplits(
        name="rows",
        digest="rows",
        num_classes=classes,
        input_shape=(12,),
        train=rows(train),
        search=rows(held),
        select=rows(held),
        test=rows(held),
    )


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4))


def weight_of(model: nn.Sequential, place: int) -> Tensor:
    weight: Tensor = model.get_parameter(f"{place}.weight")
    return weight


def refitted(weight: Tensor, zeros: int, x: Tensor) -> Tensor:
    """The weight without its smallest entries; the rest by least squares, row by row."""
    gone = np.zeros(weight.numel(), dtype=bool)
    gone[np.argsort(weight.abs().flatten().numpy(), kind="stable")[:zeros]] = True
    kept = ~gone.reshape(weight.shape)
    found = np.zeros(weight.shape)
    seen, dense = x.double().numpy(), weight.double().numpy()
    for row in range(len(dense)):
        columns = kept[row]
        if columns.any():
            wanted = seen @ dense[row]
            found[row, columns] = np.linalg.lstsq(seen[:, columns], wanted, rcond=None)[0]
    return torch.from_numpy(found)


def pruned(zeros: dict[int, int]) -> nn.Sequential:
    """The network in float64 with some layers refitted on the dense network's inputs."""
    model, (train, _) = network().double(), inputs()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for place, count in zeros.items():
            dense = weight_of(model, place).detach()
            weight_of(other, place).copy_(refitted(dense, count, model[:place](train.double())))
    return other


def divergence(model: nn.Sequential) -> Tensor:
    held = inputs()[1].double()
    p, q = (one(held).log_softmax(1) for one in (network().double(), model))
    mean: Tensor = (p.exp() * (p - q)).sum(1).mean()
    return mean


@pytest.fixture(scope="module")
def found() -> Sensitivity:
    return sensitivity(network(), splits(), ratios=RATIOS, config=CONFIG)


def cell(found: Sensitivity, place: int, ratio: float, column: str) -> float:
    table = found.table
    (value,) = table.loc[
        (table["layer"] == f"{place}.weight") & (table["ratio"] == ratio), column
    ].tolist()
    return float(value)


def test_errors_and_divergences_are_those_by_hand(found: Sensitivity) -> None:
    model, train = network().double(), inputs()[0].double()
    for place, ratio in itertools.product(PLACES, RATIOS):
        dense = weight_of(model, place).detach()
        zeros = round(ratio * dense.numel())
        other = pruned({place: zeros})
        x = model[:place](train)
        moved = x @ (weight_of(other, place).detach() - dense).T
        error = (moved.square().sum() / (x @ dense.T).square().sum()).item()
        assert cell(found, place, ratio, "zeros") == zeros
        assert cell(found, place, ratio, "error") == pytest.approx(error, rel=1e-3)
        wanted = divergence(other).item()
        assert cell(found, place, ratio, "divergence") == pytest.approx(wanted, rel=1e-3)


def test_slopes_are_derivatives_in_the_network_with_all_layers_pruned(found: Sensitivity) -> None:
    """The first order of a step of e^(1/4) in density, up and down, from autograd by hand."""
    sizes = {place: weight_of(network(), place).numel() for place in PLACES}
    for ratio in RATIOS:
        zeros = {place: round(ratio * size) for place, size in sizes.items()}
        other = pruned(zeros)
        divergence(other).backward()
        for place, size in sizes.items():
            kept = size - zeros[place]
            counts = [round(kept * math.exp(0.25)), round(kept * math.exp(-0.25))]
            more, fewer = (weight_of(pruned({place: size - n}), place) for n in counts)
            gradient = weight_of(other, place).grad
            assert gradient is not None
            change = (gradient * (more - fewer)).sum().item()
            wanted = change / math.log(counts[0] / counts[1])
            assert cell(found, place, ratio, "slope") == pytest.approx(wanted, rel=5e-3, abs=1e-5)


def test_the_table_has_a_row_for_each_pattern_layer_and_ratio() -> None:
    patterns = ("unstructured", "4x1", "2:4")
    table = sensitivity(network(), splits(), ratios=(0.75, 0.5), patterns=patterns).table
    keys = list(zip(table["pattern"], table["layer"], table["ratio"], strict=True))
    names = [f"{place}.weight" for place in PLACES]
    wanted = [key for one in patterns[:2] for key in itertools.product([one], names, RATIOS)]
    assert keys == wanted + [("2:4", name, 0.5) for name in names]  # 2:4 has one ratio
    assert table.notna().all(axis=None)
    blocks = table[table["pattern"] == "4x1"]
    assert (blocks["zeros"] % 4 == 0).all()
    assert table["macs"].tolist() == table["weights"].tolist()  # of a plain linear layer
    assert set(table["kind"]) == {"linear"}


def test_ranking_goes_by_the_divergence_at_the_greatest_ratio(found: Sensitivity) -> None:
    for given, ratio in ((None, 0.75), (0.5, 0.5)):
        by_hand = {place: cell(found, place, ratio, "divergence") for place in PLACES}
        wanted = tuple(f"{place}.weight" for place in sorted(by_hand, key=lambda p: -by_hand[p]))
        assert found.ranked(ratio=given) == wanted
    assert found.ranking == found.ranked(pattern="unstructured", ratio=0.75)
    with pytest.raises(UserError, match=r"`ratio` 0\.9: was not measured"):
        found.ranked(ratio=0.9)
    with pytest.raises(UserError, match="`pattern` 4x1"):
        found.ranked(pattern="4x1")


def test_targets_are_not_needed(found: Sensitivity) -> None:
    bare = sensitivity(network(), splits(labels=False), ratios=RATIOS, config=CONFIG)
    pd.testing.assert_frame_equal(bare.table, found.table)


@pytest.mark.parametrize("labels", [True, False])
def test_unknown_outputs_leave_divergences_empty_and_it_is_said(
    labels: bool, found: Sensitivity, capsys: pytest.CaptureFixture[str]
) -> None:
    class Maps(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x)
            return out[:, :3, None].expand(-1, -1, 2)  # (B, 3, 2) with targets (B,)

    blind = sensitivity(Maps(*network()), splits(labels=labels), ratios=RATIOS, config=CONFIG)
    assert "no divergences and slopes, only the layers' own errors" in capsys.readouterr().err
    assert blind.table[["divergence", "slope"]].isna().all(axis=None)
    np.testing.assert_allclose(blind.table["error"], found.table["error"], rtol=1e-6)
    errors = {place: cell(blind, place, 0.75, "error") for place in PLACES}
    assert blind.ranking[0] == f"{max(errors, key=errors.__getitem__)}.weight"


def test_network_stays_and_layers_left_out_have_no_rows() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = WeightSparseConfig(ws_exempt=("0",), ws_exclude=("4",))
    table = sensitivity(model, splits(), ratios=(0.5,), config=config).table
    assert table["layer"].tolist() == ["2.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_files(found: Sensitivity, tmp_path: Path) -> None:
    found.to_csv(tmp_path / "s.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "s.csv"), found.table, rtol=1e-12)
    for kind in ("svg", "png"):
        found.figure(tmp_path / f"s.{kind}")
    text = (tmp_path / "s.svg").read_text()
    assert all(f">{place}<" in text for place in PLACES)  # rows are named
    assert "divergence" in text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ratios": (0.5, 1.0)}, "`ratios`"),
        ({"ratios": ()}, "`ratios`"),
        ({"patterns": "4x1"}, "give a list of patterns"),
        ({"patterns": ("4y1",)}, "no such pattern"),
        ({"outputs": "class"}, "`outputs` class"),
        ({"config": {"ws_exclude": ("4",)}}, "`config`"),
    ],
)
def test_bad_arguments_are_refused_before_work(given: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        sensitivity(network(), splits(), **given)  # type: ignore[arg-type]
