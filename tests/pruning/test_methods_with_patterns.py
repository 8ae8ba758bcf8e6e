"""Every pattern with every method, criterion and scope in real training loops."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ws_learner.config import CriterionName
from ws_learner.core.errors import UserError
from ws_learner.pruning.criteria import Sensitivity, build_criterion
from ws_learner.pruning.functional import (
    group_lasso_regularize,
    prune_gradient_with_magnitude,
    prune_weights_with_magnitude,
)
from ws_learner.pruning.layers.layer_plan import build_pattern_plan
from ws_learner.pruning.methods.gradient_sensitivity import GradientSensitivityConfig
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.methods.group_lasso import GroupLassoConfig
from ws_learner.pruning.methods.pattern_lock import PatternLockConfig, found_zeros
from ws_learner.pruning.patterns.pattern import (
    BlockPattern,
    ChannelPattern,
    HeadPattern,
    parse_pattern,
)
from ws_learner.pruning.schedules.epoch_schedule import EpochLinearSchedule
from ws_learner.pruning.sparsifier import Sparsifier
from ws_learner.training.distillation import DistillationLoss

PATTERNS = ["unstructured", "4x1", "1x2", "2:4", "channelx1", "1xchannel"]
CRITERIA = ["magnitude", "gradient", "snip", "snip_momentum"]
STEPS = 24


class Net(nn.Module):
    """Dense, grouped, depthwise convolutions and a head of ten."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        return self.head(self.depthwise(x).mean((2, 3)))


NAMES = [f"{part}.weight" for part in ("stem", "grouped", "depthwise", "head")]


def train(model: nn.Module, sparsifier: Sparsifier, optimizer: Any, steps: int = STEPS) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 3, 6, 6, generator=generator)
        y = torch.randint(10, (6,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) + sparsifier.penalty()
        loss.backward()
        optimizer.step()


def settings(**changes: Any) -> dict[str, Any]:
    return {"iter_ratio_beg": 0.0, "iter_ratio_end": 0.8, "mask_update_step": 3} | changes


CASES = [
    *product(["gradual"], PATTERNS, CRITERIA, ["local"]),
    *product(["gradual"], PATTERNS, ["magnitude", "snip_momentum"], ["global"]),
    *product(["group_lasso"], PATTERNS, ["magnitude"], ["local", "global"]),
    *product(["gradient_sensitivity"], PATTERNS, ["magnitude"], ["local", "global"]),
]
KINDS = {
    "gradual": GradualConfig,
    "group_lasso": GroupLassoConfig,
    "gradient_sensitivity": GradientSensitivityConfig,
}


@pytest.mark.filterwarnings("ignore:.*happen to be 0 as well")
@pytest.mark.parametrize(("method", "pattern", "criterion", "scope"), CASES)
def test_any_pattern_with_any_criterion_and_method(
    method: str, pattern: str, criterion: str, scope: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Net()
    parameters, keys = [id(p) for p in model.parameters()], list(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    units = parse_pattern(pattern)
    config = KINDS[method](
        **settings(pattern=units, criterion=criterion, scope=scope)  # type: ignore[arg-type]
    )
    ratio = 0.25 if pattern == "2:4" else 0.6
    sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(NAMES, ratio), total_steps=STEPS)
    sparsifier.attach(optimizer)
    sparsifier.attach(optimizer)  # twice is harmless
    train(model, sparsifier, optimizer)
    total = sum(model.get_parameter(name).numel() for name in NAMES)
    planned = round(sparsifier.planned_ratio() * total)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    assert sparsifier.finalize() is model
    assert [id(p) for p in model.parameters()] == parameters
    assert list(model.state_dict()) == keys
    zeros = {name: int((model.get_parameter(name) == 0).sum()) for name in NAMES}
    assert sum(int((~mask).sum()) for mask in masks.values()) == planned
    assert sum(zeros.values()) >= planned
    assert abs(planned - ratio * total) <= 36 or pattern == "2:4"  # half of the largest unit
    for name, mask in masks.items():
        gone = int((~mask).sum())
        assert units.feasible(mask.shape, gone) == gone
        assert torch.equal(units.mask(mask.float(), gone), mask)
        assert not model.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sparsity_zero_prunes_nothing(pattern: str) -> None:
    ends = []
    for sparse in (False, True):
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        config = GradualConfig(**settings(pattern=parse_pattern(pattern)))
        sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(NAMES, 0.0), total_steps=STEPS)
        if sparse:
            sparsifier.attach(optimizer)
        train(model, sparsifier, optimizer, 5)
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("every", [1, 2, 5, 7, 19])
@pytest.mark.parametrize("ramp", ["linear", "exp", "cos", "cube", "oneshot", "epoch-linear-old"])
def test_the_target_is_reached_at_any_frequency(ramp: str, every: int) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    config = GradualConfig(
        **settings(ramp=ramp, mask_update_step=every, steps_per_epoch=7, initial_ratio=0.2)
    )
    sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(NAMES, 0.5), total_steps=STEPS)
    sparsifier.attach(optimizer)
    train(model, sparsifier, optimizer)
    sparsifier.finalize()
    total = sum(model.get_parameter(name).numel() for name in NAMES)
    assert sum(found_zeros(model, NAMES).values()) == round(0.5 * total)


@pytest.mark.parametrize("criterion", ["magnitude", "snip"])
def test_a_schedule_may_begin_before_the_first_step(criterion: str) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    now = EpochLinearSchedule(start_epoch=0, end_epoch=1, steps_per_epoch=4)
    config = GradualConfig(fixed_schedule=now, criterion=criterion)  # type: ignore[arg-type]
    sparsifier = Sparsifier(model, config, zeros={"head.weight": 40}, total_steps=8)
    sparsifier.attach(optimizer)
    assert int((model.head.weight == 0).sum()) == (20 if criterion == "magnitude" else 0)
    train(model, sparsifier, optimizer, 1)
    assert int((model.head.weight == 0).sum()) == 20
    train(model, sparsifier, optimizer, 3)
    assert int((model.head.weight == 0).sum()) == 40


@pytest.mark.parametrize("method", ["gradual", "group_lasso", "gradient_sensitivity"])
def test_a_resumed_run_is_bit_equal(method: str) -> None:
    criterion = "magnitude" if method == "gradient_sensitivity" else "snip_momentum"
    pattern = BlockPattern(4, 1)
    config = KINDS[method](**settings(pattern=pattern, criterion=criterion))  # type: ignore[arg-type]

    def begin() -> tuple[Net, torch.optim.Optimizer, Sparsifier]:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        sparsifier = Sparsifier(model, config, ratios={"stem.weight": 0.5}, total_steps=STEPS)
        sparsifier.attach(optimizer)
        return model, optimizer, sparsifier

    model, optimizer, sparsifier = begin()
    train(model, sparsifier, optimizer, 10)
    saved = [copy.deepcopy(part.state_dict()) for part in (model, optimizer, sparsifier)]
    train(model, sparsifier, optimizer, STEPS)
    other = begin()
    for part, state in zip(other, saved, strict=True):
        part.load_state_dict(state)
    train(other[0], other[2], other[1], STEPS)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other[0].state_dict()[key])


def blocks(shape: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """4x1 blocks of (O, I, 3, 3) with plain loops."""
    return [
        [(o, i, r, c) for o in range(top, min(top + 4, shape[0]))]
        for top in range(0, shape[0], 4)
        for r, c, i in product(range(3), range(3), range(shape[1]))
    ]


def test_group_lasso_against_the_gradient_of_the_penalty() -> None:
    weight = nn.Parameter(torch.randn(10, 3, 3, 3, dtype=torch.float64))
    weight.data[:4, 0] = 0  # whole blocks of zeros
    grad = torch.randn_like(weight)
    weight.grad = grad.clone()
    group_lasso_regularize([weight], 0.3, pattern="4x1")
    w, expected = weight.detach().numpy(), grad.numpy().copy()
    for block in blocks(w.shape):
        norm = np.sqrt(sum(w[place] ** 2 for place in block))
        for place in block:
            expected[place] += 0.3 * w[place] / norm if norm else 0.0
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=0, atol=1e-13)
    assert torch.equal(weight.grad[:4, 0], grad[:4, 0])


@pytest.mark.parametrize("pattern", [*PATTERNS, "16x1", "1:4"])
def test_group_lasso_is_the_derivative_of_the_sum_of_norms(pattern: str) -> None:
    """Central differences of alpha x sum of norms, for every pattern, ragged shapes included."""
    units = parse_pattern(pattern)
    weight = nn.Parameter(torch.randn(6, 7, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    group_lasso_regularize([weight], 2.0, pattern=units)

    def penalty(values: Tensor) -> float:
        norms = units.norms(values)
        counts = {float(n): int((norms == n).sum()) for n in norms.unique()}
        sizes = [float(n) * (int((norms == n).sum()) / count) for n, count in counts.items()]
        return 2.0 * sum(sizes)

    for place in [(0, 0), (5, 6), (3, 2)]:
        step = torch.zeros_like(weight)
        step[place] = 1e-6
        slope = (penalty(weight.detach() + step) - penalty(weight.detach() - step)) / 2e-6
        assert float(weight.grad[place]) == pytest.approx(slope, abs=1e-6)


def test_the_seed_loop() -> None:
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5))
    weights = [model[0].weight, model[2].weight]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        loss = model(torch.randn(9, 16)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        prune_gradient_with_magnitude(weights, ratio=0.75, pattern="4x1")
        group_lasso_regularize(weights, 0.006, pattern="4x1")
        optimizer.step()
        prune_weights_with_magnitude(weights, ratio=0.75, pattern="4x1")
        assert int((weights[0] == 0).sum()) == 144
        assert int((weights[1] == 0).sum()) == 45
        zero = weights[0].reshape(3, 4, 16) == 0
        assert torch.equal(zero.all(1), zero.any(1))
    with pytest.raises(UserError, match=r"prune ratio 75"):
        prune_weights_with_magnitude(weights, ratio=75)


def test_gradients_of_the_smallest_blocks_are_zeroed() -> None:
    weight = nn.Parameter(torch.arange(1.0, 17.0).reshape(4, 4))
    weight.grad = torch.ones(4, 4)
    prune_gradient_with_magnitude([weight, nn.Parameter(torch.ones(4, 4))], ratio=0.5)
    assert weight.grad.tolist() == [[0, 0, 1, 1]] * 4


def test_criteria_against_numpy() -> None:
    rng = np.random.default_rng(0)
    weight = nn.Parameter(torch.from_numpy(rng.normal(size=(3, 4))))
    criteria = {name: build_criterion(name) for name in CRITERIA}  # type: ignore[arg-type]
    memory = np.zeros((3, 4))
    for _ in range(5):
        g = rng.normal(size=(3, 4))
        weight.grad = torch.from_numpy(g)
        for criterion in criteria.values():
            criterion.observe({"w": weight})
        w = weight.detach().numpy().copy()
        memory = 0.9 * memory + np.abs(w * g)
        expected = {
            "magnitude": np.abs(w),
            "gradient": np.abs(g),
            "snip": np.abs(w * g),
            "snip_momentum": memory,
        }
        for name, criterion in criteria.items():
            found = criterion.scores({"w": weight.detach()})["w"].numpy()
            np.testing.assert_allclose(found, expected[name], rtol=1e-13)
        weight.data += 0.1
    fresh = build_criterion("snip").scores({"w": weight.detach()})["w"]
    assert not fresh.any()


def test_head_sensitivity_is_the_gradient_of_a_head_mask() -> None:
    """The sum of w g over a head's columns is the derivative by a factor on the head's output."""
    torch.manual_seed(0)
    output = nn.Linear(12, 5, bias=False).double()
    expected = torch.zeros(3, dtype=torch.float64)
    criterion = Sensitivity({"o": HeadPattern(3, "inputs")}, normalize=False)
    for _ in range(4):
        context = torch.randn(6, 12, dtype=torch.float64)
        factor = torch.ones(3, dtype=torch.float64, requires_grad=True)
        loss = output(context * factor.repeat_interleave(4)).pow(3).mean()
        output.zero_grad()
        loss.backward()
        expected += factor.grad.abs()
        criterion.observe({"o": output.weight})
    scores = criterion.scores({"o": output.weight.detach()})["o"]
    heads = scores.reshape(5, 3, 4)
    assert torch.allclose(heads, expected[:, None].expand(5, 3, 4), rtol=1e-12)


def test_gradient_sensitivity_removes_the_idle_neurons_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[2].weight.data[:, [1, 4]] = 1e-6  # what these neurons say is hardly heard
    model[0].weight.data[[1, 4]] *= 50  # although their own weights are the largest
    before = model[0].weight.detach().clone()
    config = GradientSensitivityConfig(
        pattern=ChannelPattern("outputs"), iter_ratio_beg=0.0, iter_ratio_end=1.0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    sparsifier = Sparsifier(model, config, zeros={"0.weight": 8}, total_steps=6)
    sparsifier.attach(optimizer)
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(20, 4)).square().sum().backward()
        optimizer.step()
    sparsifier.finalize()
    kept = [0, 2, 3, 5]
    assert not model[0].weight[[1, 4]].any()
    assert torch.equal(model[0].weight[kept], before[kept])  # order and values


@pytest.mark.parametrize(
    ("criterion", "memory", "power"),
    [("magnitude", 1.0, 1), ("snip", 0.0, 1), ("snip_momentum", 0.9, 1), ("gradient", 0.0, 0)],
)
def test_a_criterion_says_how_sensitivity_is_remembered(
    criterion: CriterionName, memory: float, power: int
) -> None:
    torch.manual_seed(5)
    weight = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))
    config = GradientSensitivityConfig(
        pattern=parse_pattern("4x1"), criterion=criterion, normalize=False
    )
    model = nn.Module()
    model.weight = weight
    made = config.make_criterion(build_pattern_plan(model, ["weight"], pattern=config.pattern))
    wanted = np.zeros(6)
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        made.observe({"weight": weight})
        felt = weight.grad.numpy() * weight.detach().numpy() ** power
        wanted = memory * wanted + np.abs(felt.sum(0))
    got = made.scores({"weight": weight.detach()})["weight"]
    np.testing.assert_allclose(got.numpy(), np.tile(wanted, (4, 1)), rtol=1e-12)


def sparse_net() -> Net:
    model = Net()
    with torch.no_grad():
        for name in NAMES:
            weight = model.get_parameter(name)
            units = parse_pattern("4x1")
            zeros = units.feasible(tuple(weight.shape), weight.numel() // 2)
            weight.mul_(units.mask(weight.abs(), zeros))
    return model


@pytest.mark.parametrize("teacher", [False, True], ids=["fine-tuned", "distilled"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_sparse_checkpoint_loses_no_zero(teacher: bool, kind: str) -> None:
    model = sparse_net()
    zero = {name: model.get_parameter(name).detach() == 0 for name in NAMES}
    optimizer = {
        "sgd": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
        "adamw": torch.optim.AdamW(model.parameters(), lr=0.01),
    }[kind]
    optimizer.zero_grad()
    model(torch.randn(4, 3, 6, 6)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    optimizer.step()  # momentum of its own, from before the lock
    model.load_state_dict(before)
    lock = Sparsifier(model, PatternLockConfig(), zeros=found_zeros(model), total_steps=9)
    lock.attach(optimizer)
    task = nn.functional.cross_entropy
    distilled = DistillationLoss(task, Net(), weight=4.0, temperature=4.0)
    for _ in range(9):
        x, y = torch.randn(6, 3, 6, 6), torch.randint(10, (6,))
        optimizer.zero_grad()
        outputs = model(x)
        (distilled(outputs, y, x) if teacher else task(outputs, y)).backward()
        optimizer.step()
        for name in NAMES:
            assert torch.equal(model.get_parameter(name) == 0, zero[name])
    lock.finalize()
    moved = [not torch.equal(model.get_parameter(n), before[n]) for n in NAMES]
    assert all(moved)
    assert lock.planned_ratio() == pytest.approx(0.5, abs=0.02)


def test_pattern_lock_keeps_what_is_there_and_nothing_else() -> None:
    with pytest.raises(UserError, match=r"head\.weight has 0, not 8"):
        Sparsifier(Net(), PatternLockConfig(), zeros={"head.weight": 8}, total_steps=3)
    assert found_zeros(Net()) == {}


def test_counts_that_a_pattern_cannot_make(capsys: pytest.CaptureFixture[str]) -> None:
    config = GradualConfig(**settings(pattern=BlockPattern(4, 1)))
    with pytest.raises(UserError, match=r"30 zeros for stem\.weight: .*make 28"):
        Sparsifier(Net(), config, zeros={"stem.weight": 30}, total_steps=STEPS)
    sparsifier = Sparsifier(Net(), config, ratios={"stem.weight": 0.14}, total_steps=STEPS)
    assert sparsifier.planned_ratio(STEPS) == 28 / 216
    assert "30 zeros asked for, 28 in whole units" in capsys.readouterr().err


def test_a_layer_that_does_not_divide(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = {"head.weight": 0.5, "stem.weight": 0.5}
    skip = GradualConfig(**settings(pattern=BlockPattern(4, 1), remainder="skip"))
    with pytest.warns(UserWarning, match=r"4x1 does not divide head\.weight"):
        sparsifier = Sparsifier(Net(), skip, ratios=ratios, total_steps=STEPS)
    assert list(sparsifier.masks) == ["stem.weight"]
    refuse = GradualConfig(**settings(pattern=BlockPattern(4, 1), remainder="error"))
    with pytest.raises(UserError, match=r"head\.weight of shape \(10, 8\)"):
        Sparsifier(Net(), refuse, ratios=ratios, total_steps=STEPS)
