"""Gradual pruning against a slow NumPy twin that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from tests.support.tiny_regression import (
    BEGIN,
    CONFIG,
    DECAY,
    END,
    LR,
    MOMENTUM,
    OPTIMIZERS,
    STEPS,
    ZEROS,
    data,
    network,
    train,
)
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.sparsifier import Sparsifier


class Twin:
    """Gradual pruning with SGD, momentum and weight decay, weight by weight."""

    def __init__(self, weights: list[np.ndarray], zeros: list[int]) -> None:
        self.w = [w.copy() for w in weights]
        self.zeros = zeros
        self.alive = [np.ones(w.shape, dtype=bool) for w in weights]
        self.last = [w.copy() for w in weights]
        self.speed = [np.zeros(w.shape) for w in weights]

    def step(self, number: int, x: np.ndarray, y: np.ndarray) -> None:
        hidden = x @ self.w[0].T
        error = 2 * (hidden @ self.w[1].T - y) / y.size
        gradients = [(error @ self.w[1]).T @ x, error.T @ hidden]
        for layer, gradient in enumerate(gradients):
            for place in np.ndindex(gradient.shape):
                if self.alive[layer][place]:
                    push = gradient[place] + DECAY * self.w[layer][place]
                    self.speed[layer][place] = MOMENTUM * self.speed[layer][place] + push
                    self.w[layer][place] -= LR * self.speed[layer][place]
        if BEGIN <= number <= END and ((number - BEGIN) % 4 == 0 or number == END):
            for layer in range(2):
                self.prune(layer, 1 - (1 - (number - BEGIN) / (END - BEGIN)) ** 3)

    def prune(self, layer: int, share: float) -> None:
        w, alive, last = self.w[layer], self.alive[layer], self.last[layer]
        for place in np.ndindex(w.shape):
            if alive[place]:
                last[place] = w[place]
        ranked = sorted(np.ndindex(w.shape), key=lambda place: abs(last[place]))  # stable
        gone = set(ranked[: round(share * self.zeros[layer])])
        for place in np.ndindex(w.shape):
            alive[place] = place not in gone
            w[place] = last[place] if alive[place] else 0.0
            self.speed[layer][place] *= alive[place]


def test_every_step_matches_the_numpy_twin() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
    sparsifier.attach(optimizer)
    twin = Twin([p.detach().numpy() for p in model.parameters()], list(ZEROS.values()))
    returned = 0
    for number, (x, y) in enumerate(zip(*data(), strict=True), start=1):
        before = [alive.copy() for alive in twin.alive]
        twin.step(number, x, y)
        returned += sum(int((~b & a).sum()) for b, a in zip(before, twin.alive, strict=True))
        optimizer.zero_grad()
        output = model(torch.from_numpy(x))
        ((output - torch.from_numpy(y)) ** 2).mean().backward()
        optimizer.step()
        for layer, (name, weight) in enumerate(model.named_parameters()):
            np.testing.assert_array_equal(sparsifier.masks[name].numpy(), twin.alive[layer])
            np.testing.assert_allclose(weight.detach().numpy(), twin.w[layer], rtol=0, atol=1e-13)
            np.testing.assert_allclose(
                optimizer.state[weight]["momentum_buffer"].numpy(),
                twin.speed[layer],
                rtol=0,
                atol=1e-12,
            )
    assert returned >= 3  # or the test would say nothing about weights that come back
    assert [int((w == 0).sum()) for w in twin.w] == list(ZEROS.values())
    assert sparsifier.finalize() is model


def test_a_weight_comes_back_with_its_old_value() -> None:
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[0.1, 0.2, 0.3]])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    config = GradualConfig(
        prune_ratio_exp=1.0, iter_ratio_beg=0.0, iter_ratio_end=1.0, mask_update_step=1
    )
    sparsifier = Sparsifier(model, config, zeros={"weight": 2}, total_steps=3)
    sparsifier.attach(optimizer)

    def step(*gradient: float) -> list[float]:
        model.weight.grad = torch.tensor([gradient])
        optimizer.step()
        return model.weight.tolist()[0]

    # The plan is round(2/3), round(4/3) and 2 zeros.
    assert step(0.0, 0.0, 0.0) == pytest.approx([0.0, 0.2, 0.3])
    assert step(9.0, 0.15, 0.0) == pytest.approx([0.1, 0.0, 0.3])  # 0.2 fell to 0.05, below 0.1
    assert step(0.08, 9.0, 0.0) == pytest.approx([0.0, 0.0, 0.3])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_pruned_weights_leave_no_residue(make: Callable[..., torch.optim.Optimizer]) -> None:
    model = network()
    optimizer = make(model.parameters())
    sparsifier = Sparsifier(model, CONFIG, zeros=ZEROS, total_steps=STEPS)
    sparsifier.attach(optimizer)
    pruned_so_far = []

    def check() -> None:
        for name, weight in model.named_parameters():
            pruned = ~sparsifier.masks[name]
            residue = [v for v in optimizer.state[weight].values() if v.shape == weight.shape]
            assert residue
            for tensor in (weight, *residue):
                assert torch.all(tensor[pruned] == 0)
            planned = round(sparsifier_share(sparsifier.step) * ZEROS[name])
            assert int(pruned.sum()) == planned
            pruned_so_far.append(planned)

    train(model, optimizer, range(STEPS), check)
    assert pruned_so_far[-2:] == list(ZEROS.values())
    sparsifier.finalize()


def sparsifier_share(step: int) -> float:
    """Share in force after `step`: that of the last mask update, which come every 4 steps."""
    last = min(BEGIN + max(step - BEGIN, 0) // 4 * 4, END)
    return 1 - (1 - (last - BEGIN) / (END - BEGIN)) ** 3


@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
@settings(max_examples=60, deadline=None)
def test_exact_counts_for_any_shape(data: st.DataObject, shape: tuple[int, ...]) -> None:
    holder = nn.Module()
    ties = data.draw(st.booleans())
    holder.weight = nn.Parameter(torch.ones(shape) if ties else torch.randn(shape) + 0.01)
    zeros = data.draw(st.integers(0, holder.weight.numel()))
    total, every = data.draw(st.tuples(st.integers(10, 30), st.integers(1, 4)))
    optimizer = torch.optim.SGD(holder.parameters(), lr=1e-4, momentum=0.9)
    config = GradualConfig(mask_update_step=every)
    sparsifier = Sparsifier(holder, config, zeros={"weight": zeros}, total_steps=total)
    sparsifier.attach(optimizer)
    for _ in range(total):
        holder.weight.grad = torch.ones(shape)
        optimizer.step()
    sparsifier.finalize()
    assert int((holder.weight == 0).sum()) == zeros
    assert sparsifier.planned_ratio() == pytest.approx(zeros / holder.weight.numel())
