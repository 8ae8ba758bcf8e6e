"""Gradients masked early, clipped, accumulated, or made by a closure: one step, edited once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.every_method import CASES, STEPS, loss_of, network, train
from ws_learner import Pruning, UserError
from ws_learner.compat.lpot.schema import LpotConf, Pruner
from ws_learner.pruning import GroupLassoConfig, Sparsifier, parse_pattern

READERS = ["snip", "gradient", "snip_momentum", "sensitivity", "movement", "lasso and snip"]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def state_of(sparsifier: Sparsifier) -> dict[str, Tensor]:
    weights = {f"model.{key}": value for key, value in sparsifier.model.state_dict().items()}
    return {key: v.clone() for key, v in (sparsifier.state_dict() | weights).items()}


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


@pytest.mark.parametrize("case", CASES)
def test_masking_early_changes_nothing(case: str) -> None:
    ends = []
    for calls in (0, 1, 2):
        model = network()
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        for step in range(STEPS):
            optimizer.zero_grad(set_to_none=bool(step % 2))
            loss_of(model, step).backward()
            for _ in range(calls):
                sparsifier.mask_gradients()
            optimizer.step()
        ends.append(state_of(sparsifier))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


ADDS_TERMS = ["group_lasso", "lasso and snip", "srste", "mdgf"]


@pytest.mark.parametrize(
    ("case", "to_none"),
    [(case, True) for case in CASES] + [(case, False) for case in CASES if case not in ADDS_TERMS],
)
def test_nothing_is_learned_from_a_step_left_out(case: str, to_none: bool) -> None:
    """A scaler finds an infinity after the gradients were masked, and does not step."""
    ends = []
    for left_out in (False, True):
        model = network()
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        for step in range(STEPS):
            if left_out and step in (0, 8, 15):
                optimizer.zero_grad()
                loss_of(model, 99).backward()
                model.get_parameter("0.weight").grad[0, 1] = torch.inf  # type: ignore[index]
                sparsifier.mask_gradients()
            optimizer.zero_grad(set_to_none=to_none)
            loss_of(model, step).backward()
            sparsifier.mask_gradients()
            optimizer.step()
        ends.append(state_of(sparsifier))
    assert_same(ends[0], ends[1])


def test_clipping_clips_what_a_criterion_reads() -> None:
    """Of a pruned weight too: |w g| and |g| by hand, times the factor of the clipped norm."""
    for case in ("snip", "gradient"):
        model = network()
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        train(model, optimizer, range(13))
        mask, weight = sparsifier.masks["0.weight"], model.get_parameter("0.weight")
        optimizer.zero_grad()
        loss_of(model, 13).backward()
        raw, before = weight.grad.double().clone(), weight.detach().double().clone()  # type: ignore[union-attr]
        sparsifier.mask_gradients()
        norm = torch.stack([p.grad.double().norm() for p in model.parameters()]).norm()  # type: ignore[union-attr]
        assert not weight.grad[~mask].any()  # type: ignore[index]
        nn.utils.clip_grad_norm_(model.parameters(), 0.1 * float(norm))
        optimizer.step()
        seen = sparsifier.state_dict()["criterion.0.weight"].double()
        expected = 0.1 * raw.abs() * (before.abs() if case == "snip" else 1)
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-9)
        assert bool(seen[~mask].any()) == (case == "gradient")


@pytest.mark.parametrize("case", CASES)
def test_accumulated_batches_are_one_step(case: str) -> None:
    ends = []
    for parts in (1, 2):
        model = network().double()
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        for step in range(STEPS):
            optimizer.zero_grad()
            losses = [loss_of(model, step) / 2, loss_of(model, step + 100) / 2]
            for loss in [sum(losses)] if parts == 1 else losses:
                loss.backward()  # type: ignore[union-attr]
            optimizer.step()
        assert sparsifier.step == STEPS
        ends.append(state_of(sparsifier))
    torch.testing.assert_close(*ends)


NM_METHODS = ["srste", "decoupled srste", "mdgf", "sdgf"]


class Twice(torch.optim.SGD):
    """Evaluates its closure twice, as SAM and line searches do; the last gradients count."""

    def step(self, closure: Callable[[], Any]) -> None:  # type: ignore[override]
        closure()
        super().step(closure)


@pytest.mark.parametrize("case", [case for case in CASES if case not in NM_METHODS])
@pytest.mark.parametrize("to_none", [True, False])
def test_a_closure_may_be_called_twice(case: str, to_none: bool) -> None:
    ends = []
    for closing in (False, True):
        model = network()
        sparsifier = CASES[case].sparsifier(model)
        kind = Twice if closing else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=0.2, momentum=0.9)
        sparsifier.attach(optimizer)
        for step in range(STEPS):

            def closure(step: int = step, model: nn.Module = model, opt: Any = optimizer) -> Tensor:
                opt.zero_grad(set_to_none=to_none)
                loss = loss_of(model, step)
                loss.backward()
                return loss

            optimizer.step(closure)  # type: ignore[arg-type]
        ends.append(state_of(sparsifier))
    assert_same(*ends)


@pytest.mark.parametrize("case", NM_METHODS)
def test_nm_methods_refuse_a_second_call(case: str) -> None:
    model = network()
    optimizer = Twice(model.parameters(), lr=0.1)
    CASES[case].sparsifier(model).attach(optimizer)
    with pytest.raises(UserError, match="`closure` was called twice within a step"):
        optimizer.step(lambda: loss_of(model, 0).backward())


def test_lbfgs_minimises_the_penalty_too() -> None:
    """0.5 |w - c|^2 + alpha |w| has its minimum at c (1 - alpha / |c|)."""
    goal, alpha = torch.tensor([[3.0, 4.0]], dtype=torch.float64), 1.0
    model = nn.Linear(2, 1, bias=False).double()
    ramp: dict[str, Any] = {"iter_ratio_beg": 0.9, "iter_ratio_end": 1.0, "mask_update_step": 1}
    config = GroupLassoConfig(alpha=alpha, pattern=parse_pattern("1x2"), **ramp)
    sparsifier = Sparsifier(model, config, zeros={"weight": 2}, total_steps=50)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=10)
    sparsifier.attach(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = (model.weight - goal).square().sum() / 2
        loss.backward()
        return loss

    for _ in range(8):
        optimizer.step(closure)
    expected = goal * (1 - alpha / 5)
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-5, atol=1e-5)


def test_lpots_hooks_with_a_closure() -> None:
    ends = []
    for closing in (False, True):
        pruner = Pruner(names=("0.weight",), prune_type="group_lasso", parameters={"alpha": 0.05})
        prune = Pruning(LpotConf(end_epoch=3, target_sparsity=0.5, pruners=(pruner,)))
        prune.model = network()

        def train_epochs(model: nn.Module, closing: bool = closing, prune: Pruning = prune) -> None:
            optimizer = sgd(model)
            for epoch in range(5):
                prune.on_epoch_begin(epoch)
                for step in range(3):

                    def closure(step: int = step) -> Tensor:
                        optimizer.zero_grad()
                        loss = loss_of(model, step)
                        loss.backward()
                        return loss

                    if closing:
                        optimizer.step(closure)  # type: ignore[arg-type]
                    else:
                        closure()
                        optimizer.step()

        prune.pruning_func = train_epochs
        ends.append(prune().model.state_dict())
    assert_same(*ends)
