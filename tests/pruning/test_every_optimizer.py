"""Pruned weights are exactly zero after each step of every optimizer in torch.optim."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.support.every_method import CASES, STEPS, loss_of, network
from ws_learner import UserError
from ws_learner.pruning import StoredMasks

SETTINGS: dict[str, dict[str, Any]] = {
    "Adafactor": {"lr": 0.02, "weight_decay": 0.1},
    "Adadelta": {"lr": 1.0, "weight_decay": 0.1},
    "Adagrad": {"lr": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.1},
    "Adam": {"lr": 0.02, "weight_decay": 0.1, "amsgrad": True},
    "AdamW": {"lr": 0.02, "weight_decay": 0.5},
    "Adamax": {"lr": 0.02, "weight_decay": 0.1},
    "ASGD": {"lr": 0.1, "lambd": 0.1, "t0": 3, "weight_decay": 0.1},
    "LBFGS": {"lr": 0.1, "max_iter": 3},
    "Muon": {"lr": 0.02, "weight_decay": 0.1},
    "NAdam": {"lr": 0.02, "weight_decay": 0.1},
    "RAdam": {"lr": 0.02, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
    "Rprop": {"lr": 0.01},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
}
SPARSE_ONLY = {"SparseAdam"}  # it refuses dense gradients
SCORES = {"movement", "threshold movement"}
REFUSED = {"LBFGS": SCORES | {"srste", "decoupled srste", "mdgf", "sdgf"}, "Muon": SCORES}
ALIKE = {"gradient", "snip", "lasso and snip", "decoupled srste", "sdgf"}
FEW = ("gradual", "movement", "feedback", "pattern_lock", "srste")


def test_no_optimizer_is_forgotten() -> None:
    known = {
        name
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    assert known == set(SETTINGS) | SPARSE_ONLY


def variants() -> list[tuple[str, str, str]]:
    """Each optimizer with each method, and each of its implementations with a few."""
    found = []
    for name in SETTINGS:
        options = inspect.signature(getattr(torch.optim, name)).parameters
        found += [(name, "", case) for case in CASES if case not in ALIKE]
        found += [(name, how, c) for how in ("foreach", "fused") if how in options for c in FEW]
    return found


def make(name: str, how: str, model: nn.Module) -> Optimizer:
    more = {how: True} if how else {}
    kind: Callable[..., Optimizer] = getattr(torch.optim, name)
    parameters = [p for p in model.parameters() if name != "Muon" or p.ndim == 2]
    return kind(parameters, **SETTINGS[name], **more)


def step(model: nn.Module, optimizer: Optimizer, number: int) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, number)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "how", "case"), variants())
def test_exactly_zero_after_each_step(name: str, how: str, case: str) -> None:
    model = network()
    optimizer = make(name, how, model)
    for number in range(3):  # it has moments of every weight before pruning begins
        step(model, optimizer, 100 + number)
    sparsifier = CASES[case].sparsifier(model)
    if case in REFUSED.get(name, ()):
        with pytest.raises(UserError, match=name):
            sparsifier.attach(optimizer)
        return
    sparsifier.attach(optimizer)
    for number in range(STEPS):
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        step(model, optimizer, number)
        if case != "mdgf" or sparsifier.planned_ratio():  # its masks fade in
            for key, mask in sparsifier.masks.items():
                assert not model.get_parameter(key).detach()[~mask].any()
        assert not torch.equal(before["0.weight"], model.get_parameter("0.weight"))
    sparsifier.finalize()
    pruned = 0
    for key, mask in sparsifier.masks.items():
        assert torch.equal(model.get_parameter(key).detach() == 0, ~mask)
        pruned += int((~mask).sum())
    if case == "threshold movement":
        assert pruned or name == "Adafactor"  # whose steps are in units of the scores' size, 0
    else:
        assert pruned == 64


def test_a_weight_that_returns_under_rprop_moves_as_before() -> None:
    """Rprop remembers a step size for each weight; of 0 it would take hundreds of steps to grow."""
    weight = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Rprop([weight], lr=0.01)
    masks = StoredMasks({"w": weight})
    weight.grad = torch.ones(4)
    optimizer.step()
    masks.dense_values()
    masks.update_masks({"w": torch.tensor([True, False, True, False])})
    masks.mask_state(optimizer)
    masks.update_masks({"w": torch.ones(4, dtype=torch.bool)})
    assert torch.equal(weight.detach(), torch.full((4,), 0.99))
    optimizer.step()
    moved = 0.99 - weight.detach()
    torch.testing.assert_close(moved, torch.tensor([0.012, 0.01, 0.012, 0.01]))
