"""Frozen layers, LoRA's factors, one-shot pruning, and zeros that a merge filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.what_works.rows.frozen_and_tied import LoraLinear
from ws_learner import UserError
from ws_learner.pruning import (
    GradualConfig,
    Sparsifier,
    is_adapter,
    layer_table,
    leave_out_frozen,
    prune_once,
    remember_zeros,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def kept(model: nn.Module, *, exempt: tuple[str, ...] = ()) -> list[str]:
    rows = layer_table(model, torch.zeros(2, 4), exempt=exempt)
    return [row.name for row in leave_out_frozen(model, rows, named=())]


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("base_model.model.fc.lora_A.default.weight", True),
        ("layers.0.q_proj.lora_b.weight", True),
        ("attention.lora_A", True),
        ("explorer_lora.weight", False),
        ("base_model.model.fc.base_layer.weight", False),
    ],
)
def test_factors_are_known_by_name(name: str, factor: bool) -> None:
    assert is_adapter(name) == factor


def test_frozen_rows_are_left_out_unless_all_are(capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    assert kept(model) == ["0.weight", "2.weight", "4.weight"]
    assert "frozen" not in capsys.readouterr().err
    model[0].requires_grad_(False)
    model[4].weight.requires_grad_(False)
    assert kept(model) == ["2.weight"]
    assert "0.weight, 4.weight: frozen (requires_grad is False)" in capsys.readouterr().err
    assert kept(model, exempt=("4.weight",)) == ["2.weight", "4.weight"]  # dense, but counted
    model[2].requires_grad_(False)
    assert kept(model) == ["0.weight", "2.weight", "4.weight"]
    assert kept(model, exempt=("4.weight",)) == ["0.weight", "2.weight", "4.weight"]


def test_factors_alone_are_refused() -> None:
    model = nn.Sequential(LoraLinear(nn.Linear(4, 4)))
    assert kept(model) == ["0.base_layer.weight"]
    rows = layer_table(model, torch.zeros(2, 4), include=("*lora_*",))
    with pytest.raises(UserError, match="nothing to prune but LoRA's factors"):
        leave_out_frozen(model, rows, named=())
    assert len(leave_out_frozen(model, rows, named=[row.name for row in rows])) == 2


def test_one_shot_takes_the_smallest_weights() -> None:
    model = network()
    before = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
    masks = prune_once(model, {"0.weight": 5, "2.weight": 40, "4.weight": 0})
    assert masks.keys() == {"0.weight", "2.weight"}
    for name, count in (("0.weight", 5), ("2.weight", 40)):
        order = np.argsort(np.abs(before[name]).ravel(), kind="stable")
        wanted = before[name].ravel().copy()
        wanted[order[:count]] = 0
        np.testing.assert_array_equal(model.get_parameter(name).detach().numpy().ravel(), wanted)
    np.testing.assert_array_equal(model[4].weight.detach().numpy(), before["4.weight"])


def test_one_shot_over_the_network_takes_the_smallest_of_all() -> None:
    model = network()
    names = ("0.weight", "2.weight")
    values = np.concatenate([model.get_parameter(n).detach().abs().numpy().ravel() for n in names])
    prune_once(model, dict.fromkeys(names, 16), scope="global")
    zero = np.concatenate([(model.get_parameter(n) == 0).numpy().ravel() for n in names])
    np.testing.assert_array_equal(zero, values <= np.sort(values)[31])


def test_one_shot_keeps_to_the_pattern() -> None:
    model = network()
    prune_once(model, {"2.weight": 32}, pattern="2:4")
    groups = (model[2].weight == 0).reshape(8, 2, 4).sum(2)
    assert (groups == 2).all()


@pytest.mark.parametrize("wrapped", [False, True])
def test_zeros_come_back_after_a_merge(wrapped: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    prune_once(model, {"0.weight": 16, "2.weight": 32})
    tuned = nn.Module()
    tuned.base_model = nn.Module()  # as peft wraps a network
    tuned.base_model.model = nn.Sequential(
        *(LoraLinear(m) if i < 3 and i != 1 else m for i, m in enumerate(model))
    )
    zeros = remember_zeros(tuned if wrapped else model)
    merged = nn.Sequential(
        *(m.merged() if isinstance(m, LoraLinear) else m for m in tuned.base_model.model)
    )
    dense = {n: p.detach().clone() for n, p in merged.named_parameters()}
    filled = zeros.restore(merged)
    assert list(filled.values()) == [16, 32]
    assert "zeros: 48 of 48 pruned weights had a value again, in 2 of 2" in capsys.readouterr().err
    for name, count in (("0.weight", 16), ("2.weight", 32)):
        weight = merged.get_parameter(name)
        assert int((weight == 0).sum()) == count
        assert torch.equal(weight[weight != 0], dense[name][weight != 0])
    assert zeros.restore(merged) == {}


def test_zeros_of_another_network_are_refused_and_nothing_is_changed() -> None:
    model = network()
    prune_once(model, {"0.weight": 16, "2.weight": 32})
    zeros = remember_zeros(model)
    other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 9))
    with pytest.raises(UserError, match=r"2.weight was zero .* here is the shape \(9, 8\)"):
        zeros.restore(other)
    assert not (other[0].weight == 0).any()
    with pytest.raises(UserError, match="no weight is zero"):
        remember_zeros(network())
    with pytest.raises(UserError, match=r"the nearest is '0\.weight'"):
        remember_zeros(model, ["0.wieght"])


def test_a_frozen_weight_that_the_optimizer_has_is_pruned_without_training() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    ratios, config = {"0.weight": 0.5, "2.weight": 0.5}, GradualConfig(mask_update_step=1)
    sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier.attach(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    weight = model[0].weight
    assert int((weight == 0).sum()) == 16
    assert torch.equal(weight[weight != 0], before[weight != 0])


@pytest.mark.parametrize("lazy", [nn.LazyLinear(4), nn.LazyConv1d(4, 1), nn.LazyBatchNorm1d()])
def test_every_interface_refuses_lazy_modules(lazy: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), lazy)
    told = f"layer '1' \\({type(lazy).__name__}\\): it is lazy"
    with pytest.raises(UserError, match=told):
        layer_table(model, torch.zeros(2, 4))
    with pytest.raises(UserError, match=told):
        Sparsifier(model, GradualConfig(), ratios={"0.weight": 0.5}, total_steps=9)
