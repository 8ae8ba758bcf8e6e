"""A step under a GradScaler is the step without one, for fused optimizers too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from tests.support.every_method import CASES, STEPS, loss_of, network, train
from ws_learner import Pruning, UserError
from ws_learner.compat.lpot.schema import LpotConf, Pruner
from ws_learner.pruning import GroupLassoConfig, Sparsifier, parse_pattern

OVERFLOWS = {0, 1, 9, 22}  # iterations whose step is left out
BUILD: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p, **more: torch.optim.SGD(p, lr=0.2, momentum=0.9, **more),
    "adamw": lambda p, **more: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1, **more),
}


def train_scaled(model: nn.Module, optimizer: Optimizer, *, unscale: bool = False) -> None:
    """STEPS steps and some that overflow; scales are powers of two, so nothing is rounded."""
    scaler = GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
    step = 0
    for iteration in range(STEPS + len(OVERFLOWS)):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        if iteration in OVERFLOWS:
            model.get_parameter("0.weight").grad[0, 1] = torch.inf  # type: ignore[index]
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        step += iteration not in OVERFLOWS


def run(case: str, kind: str, how: str) -> tuple[nn.Module, Sparsifier]:
    model = network()
    sparsifier = CASES[case].sparsifier(model)
    optimizer = BUILD[kind](model.parameters(), fused="fused" in how)
    sparsifier.attach(optimizer)
    if "scaler" in how:
        train_scaled(model, optimizer, unscale="unscale" in how)
    else:
        train(model, optimizer)
    assert sparsifier.step == STEPS
    return sparsifier.finalize(), sparsifier


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("case", CASES)
def test_a_fused_optimizer_under_a_scaler(case: str, kind: str) -> None:
    plain, scaled = run(case, kind, "fused"), run(case, kind, "fused, scaler")
    unscaled = run(case, kind, "fused, scaler, unscale")
    usual = run(case, kind, "scaler")
    for name, weight in plain[0].named_parameters():
        assert torch.equal(weight, scaled[0].get_parameter(name))
        assert torch.equal(weight, unscaled[0].get_parameter(name))
        torch.testing.assert_close(weight, usual[0].get_parameter(name), rtol=1e-4, atol=1e-5)
    for name, mask in plain[1].masks.items():
        assert torch.equal(mask, scaled[1].masks[name])
        assert torch.equal(mask, usual[1].masks[name])
        assert not mask.all()


def test_group_lasso_pulls_as_hard_as_without_a_scaler() -> None:
    """Without any gradient of the loss, alpha and SGD take lr x alpha off each unit's norm."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)  # norm 1 with one unit of 1x4
    ramp: dict[str, Any] = {"iter_ratio_beg": 0.9, "iter_ratio_end": 1.0, "mask_update_step": 1}
    config = GroupLassoConfig(alpha=0.5, pattern=parse_pattern("1x4"), **ramp)
    sparsifier = Sparsifier(model, config, zeros={"weight": 4}, total_steps=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    sparsifier.attach(optimizer)
    scaler = GradScaler("cpu", init_scale=2.0**16)
    for _ in range(8):
        optimizer.zero_grad()
        scaler.scale((model.weight * 0).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert float(model.weight.detach().norm()) == pytest.approx(1 - 8 * 0.1 * 0.5, abs=1e-6)


def test_a_step_left_out_leaves_everything_as_it_was() -> None:
    model = network()
    sparsifier = CASES["snip_momentum"].sparsifier(model)
    optimizer = BUILD["adamw"](model.parameters(), fused=True)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(7))
    before = {key: value.clone() for key, value in sparsifier.state_dict().items()}
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    scaler = GradScaler("cpu")
    optimizer.zero_grad()
    scaler.scale(loss_of(model, 7)).backward()
    grad = model.get_parameter("0.weight").grad
    assert grad is not None
    grad[3, 3] = torch.nan
    scaler.step(optimizer)
    after = sparsifier.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert model.get_parameter("0.weight").grad is grad  # as any other optimizer leaves it
    assert not hasattr(optimizer, "grad_scale")


def test_two_sparsifiers_of_one_optimizer_divide_once() -> None:
    ends = []
    for scaled in (False, True):
        model = network()
        optimizer = BUILD["sgd"](model.parameters(), fused=True)
        config = CASES["group_lasso"].config
        both = [
            Sparsifier(model, config, zeros={name: 32}, total_steps=STEPS)
            for name in ("0.weight", "2.weight")
        ]
        for sparsifier in both:
            sparsifier.attach(optimizer)
        train_scaled(model, optimizer) if scaled else train(model, optimizer)
        assert [sparsifier.step for sparsifier in both] == [STEPS, STEPS]
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_what_a_scaler_cannot_do_is_refused() -> None:
    model = network()
    optimizer = BUILD["sgd"](model.parameters(), fused=True)
    sparsifier = CASES["group_lasso"].sparsifier(model)
    sparsifier.attach(optimizer)
    scaler = GradScaler("cpu")
    scaler.scale(loss_of(model, 0)).backward()
    with pytest.raises(UserError, match="`closure` under a GradScaler"):
        scaler.step(optimizer, lambda: 0.0)
    sparsifier.mask_gradients()
    with pytest.raises(UserError, match=r"call scaler\.unscale_\(optimizer\) before it"):
        scaler.step(optimizer)


class TakesTheScaler(torch.optim.SGD):
    """The older contract with GradScaler."""

    _step_supports_amp_scaling = True

    def step(self, closure: Any = None, *, grad_scaler: Any = None) -> None:  # type: ignore[override]
        super().step()


@pytest.mark.filterwarnings("ignore:GradScaler is going to stop")
def test_an_optimizer_that_takes_the_scaler_itself_is_refused() -> None:
    model = network()
    optimizer = TakesTheScaler(model.parameters(), lr=0.1)
    CASES["gradual"].sparsifier(model).attach(optimizer)
    scaler = GradScaler("cpu")
    scaler.scale(loss_of(model, 0)).backward()
    with pytest.raises(UserError, match="TakesTheScaler: its `step` takes a `grad_scaler`"):
        scaler.step(optimizer)


@pytest.mark.parametrize("kind", ["group_lasso", "snip_momentum"])
def test_lpots_hooks_under_a_scaler(kind: str) -> None:
    ends = []
    for scaled in (False, True):
        more = {"parameters": {"alpha": 0.05}} if kind == "group_lasso" else {}
        pruner = Pruner(names=("0.weight",), prune_type=kind, **more)  # type: ignore[arg-type]
        prune = Pruning(LpotConf(end_epoch=3, target_sparsity=0.5, pruners=(pruner,)))
        prune.model = network()

        def train_epochs(model: nn.Module, scaled: bool = scaled, prune: Pruning = prune) -> None:
            optimizer = BUILD["sgd"](model.parameters(), fused=True)
            scaler = GradScaler("cpu", enabled=scaled)
            for epoch in range(5):
                prune.on_epoch_begin(epoch)
                for step in range(3):
                    for overflows in (True, False) if scaled else (False,):
                        optimizer.zero_grad()
                        scaler.scale(loss_of(model, step)).backward()
                        if overflows:
                            model.get_parameter("0.weight").grad[1, 1] = torch.inf  # type: ignore[index]
                        scaler.step(optimizer)
                        scaler.update()

        prune.pruning_func = train_epochs
        ends.append(prune().model.state_dict())
    assert int((ends[0]["0.weight"] == 0).sum()) == 32
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
