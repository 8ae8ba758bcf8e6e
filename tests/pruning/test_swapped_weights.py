"""Optimizers that evaluate an average; optimizers whose states are choices or codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.every_method import CASES, network, train
from ws_learner.pruning import Sparsifier


class Averaged(torch.optim.SGD):
    """SGD that keeps the mean of all weights so far and puts it in place in `eval`, as SPlus."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        self.param_groups[0]["train_mode"] = True
        self.count = 0
        self.mean = [p.detach().clone() for p in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.count += 1
        for mean, weight in zip(self.mean, self.param_groups[0]["params"], strict=True):
            mean.lerp_(weight, 1 / (self.count + 1))
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        self.param_groups[0]["train_mode"] = False
        for mean, weight in zip(self.mean, self.param_groups[0]["params"], strict=True):
            weight.copy_(mean)


class Coded(torch.optim.SGD):
    """SGD with states of the weights' shape that are a choice and a code."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state["chosen"] = state.get("chosen", torch.ones_like(p, dtype=torch.bool))
            state["code"] = state.get("code", torch.full_like(p, 7, dtype=torch.int8))
        return super().step(closure)


def trained(case: str, kind: type[Any]) -> tuple[torch.nn.Module, Any, Sparsifier]:
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    sparsifier = CASES[case].sparsifier(model)
    sparsifier.attach(optimizer)
    train(model, optimizer)
    return model, optimizer, sparsifier


def pruned_and_not_zero(model: torch.nn.Module, sparsifier: Sparsifier) -> int:
    masks = sparsifier.masks
    return sum(
        int(model.get_parameter(name).detach()[~mask].count_nonzero())
        for name, mask in masks.items()
    )


def test_finalize_says_that_an_average_comes_later(capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer, sparsifier = trained("gradual", Averaged)
    sparsifier.finalize()
    assert "Averaged.eval() puts other weights in place" in capsys.readouterr().err
    optimizer.eval()
    assert pruned_and_not_zero(model, sparsifier) == 64  # the line is right: all have values
    sparsifier.mask_copy(model)
    assert pruned_and_not_zero(model, sparsifier) == 0


def test_an_average_in_place_before_finalize_is_pruned(capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer, sparsifier = trained("gradual", Averaged)
    optimizer.eval()
    sparsifier.finalize()
    assert "puts other weights in place" not in capsys.readouterr().err
    assert pruned_and_not_zero(model, sparsifier) == 0
    for name, mask in sparsifier.masks.items():
        weight = model.get_parameter(name)
        place = next(i for i, p in enumerate(optimizer.param_groups[0]["params"]) if p is weight)
        assert torch.equal(weight.detach()[mask], optimizer.mean[place][mask])


@pytest.mark.parametrize("case", ["gradual", "feedback", "pattern_lock", "threshold movement"])
def test_codes_of_an_optimizer_are_left_alone(case: str) -> None:
    model, optimizer, sparsifier = trained(case, Coded)
    sparsifier.finalize()
    assert pruned_and_not_zero(model, sparsifier) == 0
    for name in sparsifier.masks:
        state = optimizer.state[model.get_parameter(name)]
        assert state["chosen"].all()
        assert (state["code"] == 7).all()
