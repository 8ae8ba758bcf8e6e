"""Gradual pruning in every kind of training loop: closures, resumes, rough optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.tiny_regression import (
    BEGIN,
    CONFIG,
    LR,
    OPTIMIZERS,
    STEPS,
    ZEROS,
    data,
    network,
    train,
)
from ws_learner.core.errors import UserError
from ws_learner.pruning.sparsifier import Sparsifier


class Rough(torch.optim.SGD):
    """Moves every weight, whatever its gradient."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    weight += 0.01 * torch.randn_like(weight)


def test_zeros_survive_an_optimizer_that_ignores_gradients() -> None:
    model = network()
    optimizer = Rough(model.parameters(), lr=LR)
    sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
    sparsifier.attach(optimizer)

    def check() -> None:
        for name, mask in sparsifier.masks.items():
            assert torch.equal(model.get_parameter(name) != 0, mask)

    train(model, optimizer, range(STEPS), check)
    assert [int((p == 0).sum()) for p in model.parameters()] == list(ZEROS.values())


def train_by_closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in zip(*data(), strict=True):

        def closure(x: np.ndarray = x, y: np.ndarray = y) -> float:
            optimizer.zero_grad()
            loss = (model(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean()
            loss.backward()
            return loss.item()

        assert optimizer.step(closure) > 0


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_step_with_a_closure_is_the_same(kind: str) -> None:
    ends = []
    for loop in (partial(train, steps=range(STEPS)), train_by_closure):
        model = network()
        optimizer = OPTIMIZERS[kind](model.parameters())
        sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
        sparsifier.attach(optimizer)
        loop(model, optimizer)
        ends.append(sparsifier.finalize().state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_target_zero_trains_exactly_as_without() -> None:
    ends = []
    for sparse in (False, True):
        model = network()
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        if sparse:
            sparsifier = Sparsifier(model, CONFIG, zeros=dict.fromkeys(ZEROS, 0), total_steps=STEPS)
            sparsifier.attach(optimizer)
            assert sparsifier.masks == {}
            assert float(sparsifier.penalty()) == 0.0
        train(model, optimizer, range(STEPS))
        ends.append(model.state_dict())
    assert sparsifier.finalize() is model
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("stop", [3, 6, 13, 21, 30, 45])
def test_a_resumed_run_is_bit_equal(kind: str, stop: int, tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(stop))
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "state.pt")
    save_file(sparsifier.state_dict(), tmp_path / "masks.safetensors")
    train(model, optimizer, range(stop, STEPS))

    other = network(seed=1)
    again = OPTIMIZERS[kind](other.parameters())
    resumed = Sparsifier(other, CONFIG, zeros=ZEROS, total_steps=STEPS)
    resumed.attach(again)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(load_file(tmp_path / "masks.safetensors"))
    assert resumed.step == stop
    train(other, again, range(stop, STEPS))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    mine, theirs = sparsifier.state_dict(), resumed.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert resumed.finalize() is other


def test_memory_layout_does_not_change_the_outcome() -> None:
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(2)
        model = nn.Conv2d(4, 6, 3)
        sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.5}, total_steps=STEPS)
        model.to(memory_format=layout)
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        sparsifier.attach(optimizer)
        for step in range(STEPS):
            generator = torch.Generator().manual_seed(step)
            model.weight.grad = torch.randn(6, 4, 3, 3, generator=generator)
            optimizer.step()
        sparsifier.finalize()
        assert model.weight.is_contiguous(memory_format=layout)
        ends.append(model.weight)
    assert torch.equal(*ends)
    assert int((ends[0] == 0).sum()) == 108


def test_divergence_names_the_layer_and_the_step() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(BEGIN))
    model.get_parameter("1.weight").data[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"pruning at step 10: 0\.weight: .*NaN"):
        train(model, optimizer, range(BEGIN, STEPS))
