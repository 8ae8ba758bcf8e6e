"""Gradual pruning against a slow NumPy twin that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save_file
from torch import nn

from ws_learner.errors import UserError
from ws_learner.methods.gradual import GradualConfig
from ws_learner.sparsifier import Sparsifier

STEPS, BATCH, INPUTS, OUTPUTS = 60, 5, 6, 4
CONFIG = GradualConfig(iter_ratio_beg=0.1, iter_ratio_end=0.5, mask_update_step=4)
BEGIN, END = 6, 30
ZEROS = {"0.weight": 17, "1.weight": 9}
LR, MOMENTUM, DECAY = 0.05, 0.9, 0.02


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    return (
        generator.normal(size=(STEPS, BATCH, INPUTS)),
        generator.normal(size=(STEPS, BATCH, OUTPUTS)),
    )


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(INPUTS, OUTPUTS, bias=False), nn.Linear(OUTPUTS, OUTPUTS, bias=False)
    return nn.Sequential(*layers).double()


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


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    check: Callable[[], object] = lambda: None,
) -> None:
    xs, ys = data()
    for x, y in zip(xs[steps.start : steps.stop], ys[steps.start : steps.stop], strict=True):
        optimizer.zero_grad()
        (model(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean().backward()
        optimizer.step()
        check()


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=LR, momentum=0.9, weight_decay=DECAY),
    "nesterov": partial(torch.optim.SGD, lr=LR, momentum=0.9, nesterov=True, weight_decay=DECAY),
    "sgd-loop": partial(torch.optim.SGD, lr=LR, momentum=0.9, foreach=False),
    "adam": partial(torch.optim.Adam, lr=LR, weight_decay=DECAY),
    "amsgrad": partial(torch.optim.Adam, lr=LR, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=LR, weight_decay=0.1),
    "adamw-fused": partial(torch.optim.AdamW, lr=LR, weight_decay=0.1, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.9),
    "adagrad": partial(torch.optim.Adagrad, lr=LR, weight_decay=DECAY),
}


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
    with pytest.raises(UserError, match=r"pruning 0\.weight at step 10: .*NaN"):
        train(model, optimizer, range(BEGIN, STEPS))
