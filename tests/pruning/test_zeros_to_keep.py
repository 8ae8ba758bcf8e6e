"""A network that was pruned before keeps its zeros when it is pruned further."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.pruning import (
    GradualConfig,
    GroupLassoConfig,
    MovementConfig,
    PatternLockConfig,
    Sparsifier,
    SrSteConfig,
    count_zeros,
    found_zeros,
    parse_pattern,
)

STEPS = 20
NAMES = ("0.weight", "2.weight")
SIZES = {"0.weight": 128, "2.weight": 64}


def network(share: float = 0.5, seed: int = 0) -> nn.Sequential:
    """Two layers, each with the smallest `share` of its weights at zero, as another tool leaves."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    for name in NAMES:
        weight = net.get_parameter(name).data
        smallest = weight.abs().flatten().argsort()[: int(share * weight.numel())]
        weight.view(-1)[smallest] = 0
    return net


def train(net: nn.Module, sparsifier: Sparsifier, steps: int = STEPS) -> Iterator[int]:
    """Steps on noise, which moves every weight."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sparsifier.attach(optimizer)
    draw = torch.Generator().manual_seed(1)
    for step in range(steps):
        optimizer.zero_grad()
        outputs = net(torch.randn(16, 8, generator=draw))
        (outputs.square().mean() + sparsifier.penalty()).backward()
        optimizer.step()
        yield step


def trained(net: nn.Module, sparsifier: Sparsifier, steps: int = STEPS) -> None:
    for _ in train(net, sparsifier, steps):
        pass


def zero_places(net: nn.Module) -> dict[str, Tensor]:
    return {name: net.get_parameter(name).detach() == 0 for name in NAMES}


def still_zero(net: nn.Module, places: dict[str, Tensor]) -> bool:
    return all(bool((net.get_parameter(name)[where] == 0).all()) for name, where in places.items())


CONFIGS: list[Any] = [
    GradualConfig(mask_update_step=2),
    GradualConfig(mask_update_step=2, criterion="snip"),
    GradualConfig(mask_update_step=2, scope="global"),
    GroupLassoConfig(mask_update_step=2),
    MovementConfig(mask_update_step=2),
    MovementConfig(mask_update_step=2, steps="weights"),
]


IDS = ["magnitude", "snip", "global", "lasso", "scores", "moved"]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_zeros_stay_and_count_towards_the_target(
    config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network()
    places = zero_places(net)
    sparsifier = Sparsifier(net, config, ratios=dict.fromkeys(NAMES, 0.8), total_steps=STEPS)
    for _ in train(net, sparsifier):
        assert still_zero(net, places)
        assert sparsifier.counted_ratio() >= 0.5
    sparsifier.finalize()
    assert sum(count_zeros(net.get_parameter(name)) for name in NAMES) == round(0.8 * 192)
    said = capsys.readouterr().err
    assert said.count("50.0% of the weights to prune are zero already") == 1
    assert "`keep_zeros` False trains them" in said


def test_the_ramp_begins_at_the_zeros_there_are() -> None:
    """Zhu & Gupta 2017, equation 1, with s_i the sparsity of the network: 0.5."""
    net = network()
    config = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=1.0)
    sparsifier = Sparsifier(net, config, ratios=dict.fromkeys(NAMES, 0.75), total_steps=STEPS)
    sparsifier.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    for step in (0, 5, 10, STEPS):
        wanted = 0.75 + (0.5 - 0.75) * (1 - step / STEPS) ** 3
        assert sparsifier.planned_ratio(step) == pytest.approx(wanted, abs=1 / 64)


@pytest.mark.parametrize(
    ("share", "targets", "config", "says"),
    [
        (0.5, (0.25, 0.8), CONFIGS[0], r"ratio 0\.2500 for 0\.weight: 0\.5000 are zero already"),
        (0.5, (0.3, 0.3), CONFIGS[2], r"ratio 0\.3021 for all layers together: 0\.5000"),
    ],
)
def test_a_target_below_the_zeros_is_refused_before_the_first_step(
    share: float, targets: tuple[float, float], config: GradualConfig, says: str
) -> None:
    net = network(share)
    before = copy.deepcopy(net.state_dict())
    ratios = dict(zip(NAMES, targets, strict=True))
    sparsifier = Sparsifier(net, config, ratios=ratios, total_steps=STEPS)
    with pytest.raises(UserError, match=says):
        trained(net, sparsifier)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_they_are_trained_if_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    places = zero_places(net)
    config = GradualConfig(mask_update_step=2)
    ratios = dict.fromkeys(NAMES, 0.25)
    sparsifier = Sparsifier(net, config, ratios=ratios, total_steps=STEPS, keep_zeros=False)
    trained(net, sparsifier)
    sparsifier.finalize()
    assert not still_zero(net, places)
    assert sum(count_zeros(net.get_parameter(name)) for name in NAMES) == 48
    assert "already" not in capsys.readouterr().err


def incidental() -> dict[str, nn.Sequential]:
    few = network(0.0)
    few[0].weight.data[0, :6] = 0  # 3 % of all
    branch = network(0.0)
    nn.init.zeros_(branch[2].weight)  # begins at zero
    return {"few": few, "branch": branch}


@pytest.mark.parametrize("case", incidental())
def test_zeros_of_initialisation_are_trained(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    net = incidental()[case]
    config = GradualConfig(mask_update_step=2)
    sparsifier = Sparsifier(net, config, ratios=dict.fromkeys(NAMES, 0.5), total_steps=STEPS)
    sparsifier.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    assert sparsifier.counted_ratio() > 0
    assert all(bool(mask.all()) for mask in sparsifier.masks.values())
    assert "already" not in capsys.readouterr().err


def test_padding_rows_are_no_pruned_weights() -> None:
    net = nn.Sequential(nn.Embedding(4, 8, padding_idx=0), nn.Linear(8, 2))
    config = GradualConfig(mask_update_step=2)
    ratios = {"0.weight": 0.5, "1.weight": 0.5}
    sparsifier = Sparsifier(net, config, ratios=ratios, total_steps=STEPS, keep_zeros=True)
    sparsifier.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    assert bool(sparsifier.masks["0.weight"].all())


def test_whole_units_are_kept_and_others_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    block = GradualConfig(mask_update_step=2, pattern=parse_pattern("4x1"))
    net = network(0.0)
    net[0].weight.data[:4] = 0  # eight blocks of 16 x 8
    places = zero_places(net)
    sparsifier = Sparsifier(net, block, ratios=dict.fromkeys(NAMES, 0.5), total_steps=STEPS)
    trained(net, sparsifier)
    sparsifier.finalize()
    assert still_zero(net, places)
    assert "stay zero" in capsys.readouterr().err

    net = network()
    sparsifier = Sparsifier(net, block, ratios=dict.fromkeys(NAMES, 0.75), total_steps=STEPS)
    sparsifier.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    assert "no whole units of the pattern 4x1" in capsys.readouterr().err
    asked = Sparsifier(
        network(), block, ratios=dict.fromkeys(NAMES, 0.75), total_steps=STEPS, keep_zeros=True
    )
    sparsifier.detach()
    with pytest.raises(UserError, match=r"`keep_zeros` True: .* no whole units of the pattern"):
        asked.attach(torch.optim.SGD(asked.model.parameters(), lr=0.1))


def test_a_method_that_cannot_keep_them_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    config = SrSteConfig(pattern=parse_pattern("1:4"))
    zeros = {"0.weight": 96, "2.weight": 48}
    sparsifier = Sparsifier(net, config, zeros=zeros, total_steps=STEPS)
    sparsifier.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    assert "this method cannot keep them" in capsys.readouterr().err


def test_the_lock_needs_no_word() -> None:
    net = network()
    lock = Sparsifier(net, PatternLockConfig(), zeros=found_zeros(net), total_steps=STEPS)
    places = zero_places(net)
    trained(net, lock)
    assert still_zero(lock.finalize(), places)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_resumed_training_keeps_what_it_began_with(share: float) -> None:
    """Half-way there are more zeros than at the beginning; those may still come back."""
    config = GradualConfig(mask_update_step=2, iter_ratio_end=0.9)
    ratios = dict.fromkeys(NAMES, 0.8)
    whole = network(share)
    sparsifier = Sparsifier(whole, config, ratios=ratios, total_steps=STEPS)
    trained(whole, sparsifier, steps=10)
    saved = copy.deepcopy((whole.state_dict(), sparsifier.state_dict()))
    assert sparsifier.counted_ratio() > max(share, 0.1)
    sparsifier.detach()

    for attach_first in (False, True):
        net = network(seed=3)
        net.load_state_dict(saved[0])
        again = Sparsifier(net, config, ratios=ratios, total_steps=STEPS)
        if attach_first:
            again.attach(torch.optim.SGD(net.parameters(), lr=0.1))
        again.load_state_dict(saved[1])
        again.detach()
        assert [again.planned_ratio(step) for step in range(STEPS)] == [
            sparsifier.planned_ratio(step) for step in range(STEPS)
        ]
        again.attach(torch.optim.SGD(net.parameters(), lr=0.1))
        for name, mask in sparsifier.masks.items():
            assert torch.equal(again.masks[name], mask)
        assert still_zero(net, zero_places(network(share)) if share else {})
        again.detach()


def test_bounds_of_single_layers_hold_under_the_global_scope() -> None:
    net = network(0.0)
    config = GradualConfig(
        mask_update_step=2,
        scope="global",
        max_ratios={"0": 0.25},
        min_ratios={"re:2": 0.9},
    )
    sparsifier = Sparsifier(net, config, ratios=dict.fromkeys(NAMES, 0.45), total_steps=STEPS)
    trained(net, sparsifier)
    sparsifier.finalize()
    zeros = found_zeros(net, NAMES)
    assert zeros["0.weight"] <= 32
    assert zeros["2.weight"] >= 58  # 0.9 of 64, rounded up
    assert sum(zeros.values()) == 86
