from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ws_learner.config import METHODS, load_object
from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.sparsifier import Sparsifier

CONFIG = GradualConfig(iter_ratio_beg=0.0, iter_ratio_end=0.5, mask_update_step=2)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, *, pieces: int = 1) -> None:
    optimizer.zero_grad()
    for piece in torch.randn(8, 2, 5, 5).chunk(pieces):
        model(piece).square().mean().backward()
    optimizer.step()


def test_the_model_stays_what_it_was() -> None:
    model = Net()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, CONFIG, ratios={"conv.weight": 0.5}, total_steps=10)
    sparsifier.attach(optimizer)
    for _ in range(10):
        step(model, optimizer, pieces=2)
    result = sparsifier.finalize()
    assert result is model
    assert type(result) is Net
    assert list(result.state_dict()) == keys
    assert all(a is b for a, b in zip(parameters, result.parameters(), strict=True))
    assert sparsifier.step == 10
    assert int((model.conv.weight == 0).sum()) == 18
    assert not (model.fc.weight == 0).any()
    step(model, optimizer)  # the optimizer has been let go
    assert sparsifier.step == 10
    assert int((model.conv.weight == 0).sum()) == 0


@given(st.data())
def test_ratios_become_counts_by_largest_remainder(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    shares = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    model = nn.ParameterList([nn.Parameter(torch.ones(size)) for size in sizes])
    ratios = {str(i): share for i, share in enumerate(shares)}
    wanted = np.array(sizes) * np.array(shares)
    total = round(float(sum(wanted)))
    if not total and float(sum(wanted)) / sum(sizes) > 0:
        with pytest.raises(UserError, match="nothing would be pruned"):
            Sparsifier(model, CONFIG, ratios=ratios, total_steps=4)
        return
    sparsifier = Sparsifier(model, CONFIG, ratios=ratios, total_steps=4)
    assert sparsifier.planned_ratio(4) * sum(sizes) == pytest.approx(total)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    sparsifier.attach(optimizer)
    for _ in range(4):
        optimizer.step()
    counts = np.array([int((p == 0).sum()) for p in sparsifier.finalize().parameters()])
    assert counts.sum() == total
    assert np.all(np.abs(counts - wanted) < 1)
    up = wanted - np.floor(wanted)  # whoever was rounded up had no smaller remainder
    assert max(up[counts < wanted], default=0) <= min(up[counts > wanted], default=1) + 1e-9


def test_planned_ratio_counts_the_layers_left_alone() -> None:
    model = Net()  # 36 and 20 weights
    zeros = {"conv.weight": 14, "fc.weight": 0}
    sparsifier = Sparsifier(model, CONFIG, zeros=zeros, total_steps=40)
    assert sparsifier.planned_ratio() == 0.0
    assert sparsifier.planned_ratio(10) == round(14 * 7 / 8) / 56
    assert sparsifier.planned_ratio(20) == 14 / 56
    assert list(sparsifier.masks) == ["conv.weight"]


@pytest.mark.parametrize(
    ("zeros", "text"),
    [
        ({"conv.wieght": 3}, r"conv\.wieght'.*did you mean conv\.weight"),
        ({"zzz": 3}, r"'zzz'.*e\.g\. conv\.weight"),
        ({"norm.running_mean": 1}, "no such parameter"),
        ({"conv.weight": 37}, r"37 zeros for conv\.weight: allowed are 0 to 36"),
        ({"conv.weight": -1}, "-1 zeros"),
        ({}, "no layer to prune"),
    ],
)
def test_targets_that_do_not_fit_the_model(zeros: dict[str, int], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Sparsifier(Net(), CONFIG, zeros=zeros, total_steps=10)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), 75.0])
def test_ratios_outside_their_range(ratio: float) -> None:
    with pytest.raises(UserError, match=r"for conv\.weight: allowed are 0 to 1"):
        Sparsifier(Net(), CONFIG, ratios={"conv.weight": ratio}, total_steps=10)


def test_exactly_one_kind_of_target() -> None:
    for both in ({}, {"zeros": {"fc.weight": 1}, "ratios": {"fc.weight": 0.1}}):
        with pytest.raises(ValueError, match="give one of `ratios`, such as ratios="):
            Sparsifier(Net(), CONFIG, total_steps=10, **both)  # type: ignore[arg-type]


def test_a_shared_parameter_is_pruned_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with pytest.raises(UserError, match=r"0\.weight and 1\.weight: they are one shared"):
        Sparsifier(model, CONFIG, zeros={"0.weight": 1, "1.weight": 2}, total_steps=10)
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, CONFIG, zeros={"1.weight": 4}, total_steps=4)
    sparsifier.attach(optimizer)
    for _ in range(4):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    sparsifier.finalize()
    assert int((model[0].weight == 0).sum()) == 4


def test_attaching_needs_the_right_optimizer_once() -> None:
    model = Net()
    sparsifier = Sparsifier(model, CONFIG, zeros={"fc.weight": 2}, total_steps=10)
    for stranger in (sgd(Net()), torch.optim.SGD(model.conv.parameters(), lr=0.1)):
        with pytest.raises(ValueError, match=r"lacks 1 of the parameters.*fc\.weight"):
            sparsifier.attach(stranger)
    sparsifier.attach(torch.optim.SGD(model.fc.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="attached to an optimizer already"):
        sparsifier.attach(sgd(model))
    sparsifier.detach()
    optimizer = sgd(model)
    sparsifier.attach(optimizer)
    step(model, optimizer)
    assert sparsifier.step == 1


def test_finalizing_too_early_says_what_is_missing() -> None:
    model = Net()
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, CONFIG, zeros={"fc.weight": 2}, total_steps=10)
    sparsifier.attach(optimizer)
    for _ in range(4):
        step(model, optimizer)
    with pytest.raises(UserError, match="step 4, before the ramp's last step 5"):
        sparsifier.finalize()
    step(model, optimizer)  # still attached
    sparsifier.finalize()
    assert int((model.fc.weight == 0).sum()) == 2


def test_gradients_can_be_masked_before_they_are_clipped() -> None:
    model = Net()
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, CONFIG, zeros={"fc.weight": 20}, total_steps=4)
    sparsifier.attach(optimizer)
    step(model, optimizer)
    step(model, optimizer)
    model(torch.randn(8, 2, 5, 5)).square().mean().backward()
    sparsifier.mask_gradients()
    assert model.fc.weight.grad is not None
    assert not model.fc.weight.grad.any()
    assert model.fc.bias.grad is not None
    assert model.fc.bias.grad.any()


def test_parameters_without_gradient_are_left_alone() -> None:
    model = Net()
    optimizer = sgd(model)
    zeros = {"conv.weight": 10, "fc.weight": 10}
    sparsifier = Sparsifier(model, CONFIG, zeros=zeros, total_steps=8)
    sparsifier.attach(optimizer)
    for _ in range(8):
        optimizer.zero_grad()
        model.fc(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    sparsifier.finalize()
    assert [int((p == 0).sum()) for p in (model.conv.weight, model.fc.weight)] == [10, 10]


def test_kept_weights_that_are_zero_by_chance_are_reported() -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, CONFIG, zeros={"weight": 1}, total_steps=4)
    sparsifier.attach(optimizer)
    optimizer.step()
    optimizer.step()
    assert sparsifier.planned_ratio() == 0.25
    model.weight.data.zero_()
    with pytest.warns(UserWarning, match="weight: 3 kept weights happen to be 0"):
        sparsifier.finalize()


def test_a_foreign_state_is_refused_and_changes_nothing() -> None:
    model = Net()
    sparsifier = Sparsifier(model, CONFIG, zeros={"fc.weight": 2}, total_steps=10)
    before = sparsifier.state_dict()
    other = Sparsifier(nn.Linear(2, 2), CONFIG, zeros={"weight": 2}, total_steps=10)
    wide = before | {"mask.fc.weight": torch.ones(9, dtype=torch.bool)}
    for state, text in [
        (other.state_dict(), "another network"),
        (wide, r"mask\.fc\.weight"),
        ({}, "`step` is missing"),
    ]:
        with pytest.raises(UserError, match=text):
            sparsifier.load_state_dict(state)
    after = sparsifier.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_with_its_own_defaults(name: str) -> None:
    model = Net()
    if name == "pattern_lock":
        model.fc.weight.data[:, :2] = 0
    optimizer = sgd(model)
    sparsifier = Sparsifier(
        model, load_object(METHODS[name].config)(), ratios={"fc.weight": 0.5}, total_steps=100
    )
    sparsifier.attach(optimizer)
    for _ in range(100):
        optimizer.zero_grad()
        (model(torch.randn(4, 2, 3, 3)).square().mean() + sparsifier.penalty()).backward()
        optimizer.step()
    sparsifier.finalize()
    assert int((model.fc.weight == 0).sum()) == 10


def test_a_second_sparsifier_of_the_same_weights_waits_for_the_first() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = GradualConfig(mask_update_step=1)

    def sparsifier(name: str) -> Sparsifier:
        return Sparsifier(model, config, ratios={name: 0.5}, total_steps=4)

    first, second = sparsifier("0.weight"), sparsifier("0.weight")
    first.attach(optimizer)
    sparsifier("1.weight").attach(optimizer)
    with pytest.raises(UserError, match=r"0\.weight is pruned by another.*finalize\(\) or detach"):
        second.attach(optimizer)
    first.detach()
    second.attach(optimizer)


def test_a_forgotten_attach_is_named() -> None:
    sparsifier = Sparsifier(nn.Linear(4, 4), CONFIG, ratios={"weight": 0.5}, total_steps=10)
    with pytest.raises(UserError, match=r"no optimizer was attached.*call `attach"):
        sparsifier.finalize()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"total_steps": "10"}, "`total_steps` '10': must be a whole number of at least 0"),
        ({"total_steps": 2.5}, "`total_steps` 2.5: must be a whole number of at least 0"),
        ({"ratios": 0.5}, "`ratios`: is 0.5; give a dict of parameter name -> value"),
        ({"ratios": {"fc.weight": "0.5"}}, "prune ratio '0.5' for fc.weight: must be a number"),
        ({"model": "fc"}, "`model`: is 'fc'; give the network, an nn.Module"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(given: dict[str, Any], line: str) -> None:
    arguments: dict[str, Any] = {
        "model": Net(),
        "ratios": {"fc.weight": 0.5},
        "total_steps": 10,
    } | given
    with pytest.raises(UserError) as caught:
        Sparsifier(arguments.pop("model"), CONFIG, **arguments)
    assert line in str(caught.value)


def test_ratios_may_be_numbers_of_numpy_and_torch() -> None:
    for ratio in (np.float32(0.5), torch.tensor(0.5)):
        model = Net()
        ratios: Any = {"fc.weight": ratio}
        sparsifier, optimizer = Sparsifier(model, CONFIG, ratios=ratios, total_steps=10), sgd(model)
        sparsifier.attach(optimizer)
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.randn(2, 2, 5, 5)).square().sum().backward()
            optimizer.step()
        assert int((sparsifier.finalize().fc.weight == 0).sum()) == 10
