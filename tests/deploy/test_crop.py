"""Cropped transformers: the outputs of the masked ones, on disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.tiny_transformers import FAMILIES, FusedBlock, bert
from ws_learner.core.errors import UserError
from ws_learner.deploy.shrinking.crop import crop, float_outputs
from ws_learner.deploy.shrinking.cropped_file import SIDE_FILE, load_cropped, save_cropped
from ws_learner.pruning.layers.unit_groups import find_groups
from ws_learner.pruning.patterns.structured import Member, UnitGroup, resolve


def mask_units(model: nn.Module, *, seed: int, density: float) -> None:
    """Put a random mask on all grouped weights and biases, resolved to whole units."""
    groups = find_groups(model)
    draw = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    names = [member.weight for group in groups for member in group.members]
    biases = {n: n.removesuffix("weight") + "bias" for n in names}
    masks = {}
    for name in [*names, *biases.values()]:
        shape = parameters[name].shape
        chance = torch.rand(len(shape) and shape[0], 1, generator=draw) * density
        chance = chance if len(shape) > 1 else chance[:, 0]
        masks[name] = torch.rand(shape, generator=draw) < chance
    made = resolve(groups, masks, biases=biases)
    with torch.no_grad():
        for name, mask in made.items():
            parameters[name].mul_(mask)


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(one, other, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_are_those_of_the_masked_network(family: str, attention: str) -> None:
    model, inputs = FAMILIES[family](attention)
    mask_units(model, seed=1, density=0.004)
    cropped = crop(model, inputs)
    assert cropped.removed > 0
    _, others = FAMILIES[family](attention)
    torch.manual_seed(9)
    others = {
        k: torch.randn_like(v) if v.is_floating_point() else v.flip(0) for k, v in others.items()
    }
    assert close(float_outputs(model, others), float_outputs(cropped.model, others))
    before = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in cropped.model.parameters()) < before
    assert all(p.numel() for p in cropped.model.parameters())


@pytest.mark.parametrize("seed", range(4))
def test_a_fused_projection_loses_three_slices(seed: int) -> None:
    torch.manual_seed(seed)
    model = FusedBlock().eval()
    mask_units(model, seed=seed, density=0.01)
    cropped = crop(model, (torch.randn(2, 5, 24),))
    heads = len(cropped.kept[0].units)
    assert cropped.model.get_parameter("attn.qkv.weight").shape == (3 * heads * 6, 24)
    inputs = torch.randn(3, 7, 24)
    assert close(float_outputs(model, [inputs]), float_outputs(cropped.model, [inputs]))


def test_nothing_to_remove_removes_nothing_and_one_unit_always_stays() -> None:
    model, inputs = bert()
    assert crop(model, inputs).removed == 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "output.dense.weight" in name:
                parameter.zero_()
    cropped = crop(model, inputs)
    assert [len(kept.units) for kept in cropped.kept] == [1] * 4
    assert close(float_outputs(model, inputs), float_outputs(cropped.model, inputs))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_side_file_rebuilds_the_shapes(family: str, tmp_path: Path) -> None:
    model, inputs = FAMILIES[family]()
    mask_units(model, seed=2, density=0.004)
    cropped = crop(model, inputs)
    save_cropped(cropped, tmp_path)
    again = load_cropped(tmp_path)
    assert type(again) is type(model)
    for name, tensor in cropped.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert close(float_outputs(model, inputs), float_outputs(again, inputs))
    fresh, _ = FAMILIES[family]()
    assert close(float_outputs(model, inputs), float_outputs(load_cropped(tmp_path, fresh), inputs))


def test_cropping_again_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model, inputs = bert()
    mask_units(model, seed=2, density=0.01)
    first = crop(model, inputs).model
    group = next(g for g in find_groups(first) if g.kind == "neurons" and g.units > 1)
    with torch.no_grad():
        first.get_parameter(group.members[1].weight)[:, -1] = 0
    second = crop(first, inputs)
    assert second.removed == 1
    assert close(float_outputs(first, inputs), float_outputs(second.model, inputs))


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=SIDE_FILE):
        load_cropped(tmp_path)
    model, inputs = bert()
    save_cropped(crop(model, inputs), tmp_path)
    with pytest.raises(UserError, match="another network"):
        load_cropped(tmp_path, FusedBlock())
    (tmp_path / SIDE_FILE).write_text('{"kept": 3}')
    with pytest.raises(UserError, match="not a side file"):
        load_cropped(tmp_path)


class Stubborn(FusedBlock):
    """Knows the width of its attention by heart."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x)
        return result + self.mlp.fc1.weight.shape[0]


def test_a_network_that_computes_something_else_is_refused() -> None:
    torch.manual_seed(0)
    model = Stubborn().eval()
    with torch.no_grad():
        model.mlp.fc2.weight[:, 3] = 0
    with pytest.raises(UserError, match="gives different outputs with fewer heads or neurons"):
        crop(model, (torch.randn(2, 5, 24),))


@pytest.mark.parametrize("where", ["attn.proj.bias", "mlp.fc1.weight"])
def test_outputs_that_are_nan_are_no_proof(where: str) -> None:
    torch.manual_seed(0)
    model = FusedBlock().eval()
    with torch.no_grad():
        model.get_parameter(where)[0] = torch.nan
    with pytest.raises(UserError, match="are NaN"):
        crop(model, (torch.randn(2, 5, 24),))


def test_groups_of_the_users_own_are_cropped() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    members = (Member(weight="0.weight", axis="outputs"), Member(weight="2.weight", axis="inputs"))
    own = UnitGroup(name="", kind="neurons", units=4, members=members)  # pairs of neurons
    with torch.no_grad():
        model[2].weight[:, 2:4] = 0  # both of the second pair
        model[2].weight[:, 6] = 0  # one of a pair stays, so the pair does
    assert crop(model, (torch.randn(2, 6),)).removed == 0  # by its names nothing is found
    cropped = crop(model, (torch.randn(2, 6),), groups=[own])
    assert [kept.units for kept in cropped.kept] == [(0, 2, 3)]
    assert cropped.model.get_parameter("0.weight").shape == (6, 6)
    inputs = torch.randn(4, 6)
    assert close(float_outputs(model, [inputs]), float_outputs(cropped.model, [inputs]))
