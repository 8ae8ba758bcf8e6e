"""Copies beside the model get its masks: moving averages, the best weights, another device."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.support.every_method import CASES, LAYERS, STEPS, network, train
from ws_learner import UserError
from ws_learner.pruning import Sparsifier

AVERAGES: dict[str, Callable[[nn.Module], AveragedModel]] = {
    "EMA": lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "SWA": AveragedModel,
}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def assert_masked(model: nn.Module, sparsifier: Sparsifier, before: nn.Module) -> None:
    """Zero where pruned, as before everywhere else."""
    masks = sparsifier.masks
    for name, value in before.named_parameters():
        mask = masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(model.get_parameter(name), torch.where(mask, value, 0.0)), name


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize("case", CASES)
def test_an_average_gets_the_zeros_and_keeps_them(case: str, kind: str) -> None:
    model = network()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    average = AVERAGES[kind](model)
    train(model, optimizer, between=lambda step: average.update_parameters(model))
    for during in (True, False):
        if not during:
            sparsifier.finalize()
        before = copy.deepcopy(average.module)
        assert sparsifier.mask_copy(average) is average
        assert_masked(average.module, sparsifier, before)
    assert any(not mask.all() for mask in sparsifier.masks.values())
    average.update_parameters(model)  # after the end: zeros and zeros average to zeros
    for name, mask in sparsifier.masks.items():
        assert torch.equal(average.module.get_parameter(name) == 0, ~mask)


def test_the_best_model_so_far_gets_the_final_zeros() -> None:
    model = network()
    sparsifier, optimizer = CASES["gradual"].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    copies: list[nn.Module] = []
    train(
        model, optimizer, between=lambda s: copies.append(copy.deepcopy(model)) if s == 8 else None
    )
    best = copies[0]
    assert [int((best.get_parameter(name) == 0).sum()) for name in LAYERS] != [32, 32]
    before = copy.deepcopy(best)
    sparsifier.finalize()
    assert sparsifier.mask_copy(best) is best
    assert_masked(best, sparsifier, before)
    half = copy.deepcopy(before).bfloat16()  # another precision
    sparsifier.mask_copy(half)
    assert int((half.get_parameter("0.weight") == 0).sum()) == 32


def test_wrapped_copies_are_found() -> None:
    model = network()
    sparsifier = CASES["pattern_lock"].sparsifier(model)
    for wrap in (nn.DataParallel, lambda m: torch.compile(m, backend="eager")):
        other = network(1)
        before = copy.deepcopy(other)
        wrapped = wrap(other)
        assert sparsifier.mask_copy(wrapped) is wrapped
        assert_masked(other, sparsifier, before)


def test_another_network_is_refused_and_not_changed() -> None:
    model = network()
    sparsifier = CASES["pattern_lock"].sparsifier(model)
    wide = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 9))
    other = nn.Sequential(nn.Linear(8, 8))
    for stranger, text in (
        (wide, r"2\.weight has the shape \(9, 8\), the mask \(8, 8\)"),
        (other, r"has no parameter 2\.weight, which is pruned \(the nearest name is 0\.weight\)"),
        (AveragedModel(other), r"`other` AveragedModel: has no parameter 2\.weight"),
    ):
        with pytest.raises(UserError, match=text):
            sparsifier.mask_copy(stranger)
        assert all(bool((p != 0).all()) for p in stranger.parameters())


def test_before_training_nothing_is_pruned() -> None:
    other = network(1)
    before = copy.deepcopy(other)
    CASES["gradual"].sparsifier(network(), steps=STEPS).mask_copy(other)
    for name, value in before.named_parameters():
        assert torch.equal(other.get_parameter(name), value)
