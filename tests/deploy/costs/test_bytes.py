"""Bytes of choices against files, and the parts of a file against its whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from envs import LayerRow
from ws_learner.core import LayerChoice, NumberFormat, UserError
from ws_learner.deploy import BytesCosts, network_bytes, write_wsr
from ws_learner.pruning import layer_table, parse_pattern, prune_once
from ws_learner.search.costs.counted import CountedCosts

SHAPE = (2, 16, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    last = [nn.Flatten(), nn.Linear(32 * 36, 120), nn.Linear(120, 10)]
    return nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), *last).eval()


def choices(
    layers: tuple[LayerRow, ...], pattern: str, density: float, dtype: NumberFormat
) -> list[LayerChoice]:
    units = parse_pattern(pattern)
    return [
        LayerChoice(
            pattern=pattern,
            zeros=units.feasible(row.shape, round((1 - density) * row.weights)),
            dtype=dtype,
        )
        for row in layers
    ]


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("density", [0.5, 0.1])
@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "16x4", "8x2", "1:4", "1xchannel"])
def test_predicted_bytes_are_those_of_the_file(
    pattern: str, density: float, dtype: NumberFormat
) -> None:
    model = network()
    layers = layer_table(model, torch.randn(SHAPE))
    own = choices(layers, pattern, density, dtype)
    costs = BytesCosts(model, layers)
    predicted = costs.overhead + sum(costs.cost(i, choice) for i, choice in enumerate(own))
    prune_once(model, {r.name: c.zeros for r, c in zip(layers, own, strict=True)}, pattern=pattern)
    assert predicted == pytest.approx(network_bytes(model, dtype), rel=0.02)


def test_network_bytes_are_the_size_of_the_file(tmp_path: Path) -> None:
    model = network()
    prune_once(model, {"0.weight": 3000})
    write_wsr(tmp_path / "model.wsr", model.state_dict())
    assert network_bytes(model) == (tmp_path / "model.wsr").stat().st_size


def test_a_layer_of_bytes_takes_a_fourth_and_its_scales() -> None:
    """Of random weights: 1 instead of 4 bytes each, and 4 for each of 120 outputs."""
    model = nn.Sequential(nn.Linear(1000, 120, bias=False))
    whole, bytes_ = network_bytes(model), network_bytes(model, {"0.weight": "int8"})
    assert whole - bytes_ == pytest.approx(3 * 120_000 - 4 * 120, abs=200)  # lines of the header


def test_files_that_store_zeros() -> None:
    model = network()
    layers = layer_table(model, torch.randn(SHAPE))
    costs = BytesCosts(model, layers, file_format="dense")
    sparse = choices(layers, "4x1", 0.1, "fp32")
    assert [costs.cost(i, c) for i, c in enumerate(sparse)] == [4 * row.weights for row in layers]
    bytes_ = LayerChoice(pattern="4x1", zeros=0, dtype="int8")
    assert costs.cost(0, bytes_) == layers[0].weights + 4 * 32
    listed = {row.name for row in layers}
    others = [t for name, t in model.state_dict().items() if name not in listed]
    assert costs.overhead == sum(t.numel() * t.element_size() for t in others)


def test_digest_and_errors() -> None:
    model = network()
    layers = layer_table(model, torch.randn(SHAPE))
    assert BytesCosts(model, layers).digest == BytesCosts(network(), layers).digest
    assert BytesCosts(model, layers).digest != BytesCosts(model, layers[:-1]).digest
    with pytest.raises(UserError, match="`file_format` zip"):
        BytesCosts(model, layers, file_format="zip")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has no parameter 0\.weight"):
        BytesCosts(nn.Flatten(), layers)
    with pytest.raises(UserError, match="`pattern` mha"):
        BytesCosts(model, layers).cost(0, LayerChoice(pattern="mha", zeros=64))


def test_more_zeros_than_weights_are_refused_by_every_cost() -> None:
    model = network()
    layers = layer_table(model, torch.randn(SHAPE))
    choice = LayerChoice(pattern="unstructured", zeros=layers[0].weights + 1)
    for costs in (
        BytesCosts(model, layers),
        BytesCosts(model, layers, file_format="dense"),
        CountedCosts(unit="macs", layers=layers),
    ):
        with pytest.raises(UserError, match=rf"`zeros` \d+: {layers[0].name} has \d+ weights"):
            costs.cost(0, choice)
