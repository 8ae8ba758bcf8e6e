"""Ratios, bounds and zeros that people bring along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row, pruned
from ws_learner import DataSplits, Result, split_dataset, top_k_accuracy

_UNIFORM = {"ws_prune_ratio_prtl": "uniform"}


def _data() -> DataSplits:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(160, 8, generator=draw)
    return split_dataset(TensorDataset(inputs, (inputs.sum(1) > 0).long()), num_classes=2)


def _network(share: float = 0.0) -> nn.Sequential:
    """Two layers of 128 and 32 weights, the smallest `share` of each at zero."""
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("body", nn.Linear(8, 16))
    net.add_module("relu", nn.ReLU())
    net.add_module("head", nn.Linear(16, 2))
    for layer in (net.body, net.head):
        weight = layer.weight.data
        weight.view(-1)[weight.abs().flatten().argsort()[: int(share * weight.numel())]] = 0
    return net


def _run(folder: Path, *, share: float = 0.0, **config: Any) -> Result:
    return pruned(
        _network(share),
        _data(),
        folder,
        loss=nn.functional.cross_entropy,
        metric=top_k_accuracy,
        config=config,
    )


def _ratios(result: Result) -> dict[str, float]:
    table = result.ratios
    return dict(zip(table["layer"], table["achieved"], strict=True))


def _caps_of_a_search(folder: Path) -> None:
    found = _ratios(_run(folder, ws_max_ratios={"head": 0.25}))
    assert found["head.weight"] <= 0.25


def _floor_and_fixed(folder: Path) -> None:
    config = _UNIFORM | {"ws_min_ratios": "re:bo.*=0.55", "ws_fixed_ratios": {"head.weight": 0.25}}
    found = _ratios(_run(folder, **config))
    assert found["head.weight"] == 0.25
    assert found["body.weight"] >= 0.55


def _caps_in_a_file(folder: Path) -> None:
    (folder / "caps.json").write_text(json.dumps({"head": 0.25}))
    found = _ratios(_run(folder, **_UNIFORM, ws_max_ratios="caps.json"))
    assert found["head.weight"] <= 0.25


def _caps_under_a_pattern(folder: Path) -> None:
    found = _ratios(_run(folder, **_UNIFORM, ws_pattern="2x1", ws_max_ratios={"head": 0.3}))
    assert found["head.weight"] == 0.25  # 4 of 16 units of two weights


def _impossible(folder: Path) -> None:
    _run(folder, ws_max_ratios={"*": 0.3})


def _misspelt(folder: Path) -> None:
    _run(folder, ws_max_ratios={"heat": 0.3})


def _excluded_by_expression(folder: Path) -> None:
    result = _run(folder, **_UNIFORM, ws_exclude=("re:h.*d",))
    assert list(_ratios(result)) == ["body.weight"]


def _excluded_nothing(folder: Path) -> None:
    _run(folder, **_UNIFORM, ws_exclude=("decoder.*",))


def _given(folder: Path, ratios: Any, wanted: Mapping[str, float]) -> None:
    target = (128 * wanted["body.weight"] + 32 * wanted["head.weight"]) / 160
    assert _ratios(_run(folder, ws_ratios=ratios, ws_prune_ratio=target)) == wanted


def _dict(folder: Path) -> None:
    _given(folder, {"body": 0.5, "head": 0.25}, {"body.weight": 0.5, "head.weight": 0.25})


def _frame(folder: Path) -> None:
    frame = pd.DataFrame({"name": ["body.weight", "head.weight"], "sparsity": [0.5, 0.25]})
    _given(folder, frame, {"body.weight": 0.5, "head.weight": 0.25})


def _table_in_percent(folder: Path) -> None:
    text = "Module Name;Density (%);MACs\nmodule.body;25;128\nmodule.head;50;32\nbn1;100;0\n"
    (folder / "tool.csv").write_text(text)
    _given(folder, "tool.csv", {"body.weight": 0.75, "head.weight": 0.5})


def _left_out(folder: Path) -> None:
    _given(folder, {"body": 0.5}, {"body.weight": 0.5, "head.weight": 0.0})


def _unclear_unit(folder: Path) -> None:
    (folder / "tool.csv").write_text("layer,sparsity\nbody,0.5\nhead,30\n")
    _run(folder, ws_ratios="tool.csv")


def _other_target(folder: Path) -> None:
    _run(folder, ws_ratios={"body": 0.5}, ws_prune_ratio=0.9)


def _sparse_checkpoint(folder: Path) -> None:
    before = _network(0.5)
    after = _run(folder, share=0.5, ws_prune_ratio=0.8).model.cpu()
    for name in ("body.weight", "head.weight"):
        was_zero = before.get_parameter(name) == 0
        assert bool((after.get_parameter(name)[was_zero] == 0).all())


def _below_its_sparsity(folder: Path) -> None:
    _run(folder, share=0.5, ws_prune_ratio=0.3)


def _trained_again(folder: Path) -> None:
    _run(folder, share=0.5, **_UNIFORM, ws_prune_ratio=0.3, ws_keep_zeros=False)


ROWS = (
    Row(area="training", what="a cap for one layer, in a search", run=_caps_of_a_search),
    Row(
        area="training",
        what="a floor by regular expression and a fixed ratio by name",
        run=_floor_and_fixed,
    ),
    Row(area="training", what="caps in a JSON file", run=_caps_in_a_file),
    Row(
        area="training",
        what="a cap between two counts that the pattern can make",
        run=_caps_under_a_pattern,
    ),
    Row(
        area="training",
        what="caps that do not allow the target",
        run=_impossible,
        refused="the layers' bounds and the pattern unstructured allow 0.0000 to 0.2938",
    ),
    Row(
        area="training",
        what="a cap for a layer that does not exist",
        run=_misspelt,
        refused="`ws_max_ratios` 'heat': fits no layer; did you mean head",
    ),
    Row(
        area="network",
        what="layers left out by a regular expression",
        run=_excluded_by_expression,
    ),
    Row(
        area="network",
        what="a pattern of layers that matches nothing",
        run=_excluded_nothing,
        refused="`exclude` 'decoder.*': matches no layer",
    ),
    Row(area="training", what="ratios of all layers as a dict", run=_dict),
    Row(area="training", what="ratios as a pandas frame", run=_frame),
    Row(
        area="training",
        what="another tool's table: densities in per cent, names of a wrapped network",
        run=_table_in_percent,
    ),
    Row(area="training", what="ratios that leave layers out, which stay dense", run=_left_out),
    Row(
        area="training",
        what="a table that mixes shares and per cent",
        run=_unclear_unit,
        refused="column sparsity has 0.5 and 30: shares or percent?",
    ),
    Row(
        area="training",
        what="ratios that miss the target given with them",
        run=_other_target,
        refused="`ws_ratios` makes 0.4000 of all weights zero, `ws_prune_ratio` asks for 0.9",
    ),
    Row(
        area="network",
        what="a sparse checkpoint, pruned further: its zeros stay",
        run=_sparse_checkpoint,
    ),
    Row(
        area="network",
        what="a sparse checkpoint and a target below its sparsity",
        run=_below_its_sparsity,
        refused="0.5000 of the weights are zero already and stay so",
    ),
    Row(
        area="network",
        what="a sparse checkpoint, trained and pruned anew with `ws_keep_zeros=False`",
        run=_trained_again,
    ),
)
