"""Coupled units: what goes together, and that removing it is the same as setting it to zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.structured_nets import NETS, residual
from ws_learner.core import UserError
from ws_learner.deploy import find_coupled_units, shrink
from ws_learner.pruning import layer_widths, zero_units

EXPECTED = {
    "chain": {"0": ("channels", 6), "3": ("channels", 5), "8": ("neurons", 7)},
    "residual": {"stem a2 b2": ("stream", 6), "a1": ("channels", 5), "b1": ("channels", 5)},
    "attention": {
        "attention.q_proj attention.k_proj attention.v_proj": ("heads", 3),
        "fc1": ("neurons", 10),
    },
    "fused": {"attn.qkv": ("heads", 4)},
}
"""Layers that make the units -> kind and number of units."""


@pytest.mark.parametrize("name", NETS)
def test_the_sets_of_a_network(name: str) -> None:
    model, example = NETS[name]()
    found = {
        frozenset(part.layer for part in one.parts if part.side == "outputs"): (one.kind, one.units)
        for one in find_coupled_units(model, example).sets
    }
    assert found == {frozenset(k.split()): value for k, value in EXPECTED[name].items()}


@pytest.mark.parametrize("name", NETS)
def test_each_unit_removed_gives_the_outputs_of_zeros(name: str) -> None:
    model, example = NETS[name]()
    sets = find_coupled_units(model, example).sets
    for one in sets:
        for gone in ([0], [one.units - 1], list(range(one.units - 1))):
            zeroed, _ = NETS[name]()
            zeroed.load_state_dict(model.state_dict())
            # By brute force: zero the columns that read the units, one entry after the other.
            for part in one.readers():
                weight = zeroed.get_parameter(f"{part.layer}.weight").data
                for position, unit in zip(part.positions, part.units, strict=True):
                    if unit in gone:
                        weight[:, position] = 0
            wanted = zeroed(example)
            zero_units(zeroed, sets, {one.name: gone})
            torch.testing.assert_close(zeroed(example), wanted)
            slim = shrink(zeroed, example).model
            torch.testing.assert_close(slim(example), wanted, rtol=1e-4, atol=1e-5)
            widths = layer_widths(model, sets)
            kept = [s.units - (len(gone) if s is one else 0) for s in sets]
            for layer, (inputs, outputs) in widths.items():
                weight = slim.get_parameter(f"{layer}.weight")
                assert weight.shape[0] == outputs.at(kept)
                if weight.dim() > 1:
                    assert weight.shape[1] == inputs.at(kept)


def test_refused_sets_say_why() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.ReLU(),
                          nn.Linear(5, 3))  # fmt: skip
    found = find_coupled_units(model, torch.randn(2, 4))
    assert [one.name for one in found.sets] == ["2"]
    reasons = {obstacle.layer: obstacle.reason for obstacle in found.refused}
    assert set(reasons) == {"0", "4"}
    assert "LayerNorm" in reasons["0"]
    assert "outputs of the network" in reasons["4"]


def test_the_network_is_not_changed() -> None:
    model, example = residual()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_coupled_units(model, example)
    assert all(torch.equal(before[n], tensor) for n, tensor in model.state_dict().items())


def test_unknown_units_are_refused() -> None:
    model, example = NETS["chain"]()
    sets = find_coupled_units(model, example).sets
    with pytest.raises(UserError, match="`gone` 8"):
        zero_units(model, sets, {"8": [7]})
    with pytest.raises(UserError, match="`gone` nothing"):
        zero_units(model, sets, {"nothing": [0]})
