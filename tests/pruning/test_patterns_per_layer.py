"""A pattern for each layer: exact counts, whole units, saved states."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.every_method import RAMP
from ws_learner.core import UserError
from ws_learner.pruning import (
    GradualConfig,
    GroupLassoConfig,
    MdgfConfig,
    MovementConfig,
    Sparsifier,
    SrSteConfig,
    as_pattern,
    check_whole_units,
    prune_once,
)

PATTERNS = {
    "0.weight": "4x1",  # (16, 3, 3, 3)
    "2.weight": "2:4",  # (8, 16)
    "4.weight": "4x4",  # (8, 8), stored inputs first
    "6.weight": "1xchannel",  # (6, 8)
    "8.weight": "unstructured",  # (5, 6)
}
ZEROS = {"0.weight": 200, "2.weight": 64, "4.weight": 32, "6.weight": 24, "8.weight": 13}
STEPS = 20


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.Unflatten(1, (8, 1, 1)),
        nn.ConvTranspose2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.Tanh(),
        nn.Linear(6, 5),
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(16, 3, 3, 3, generator=generator)
        loss = nn.functional.cross_entropy(model(images), images.sum((1, 2, 3)).long() % 5)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def attached(config: Any, zeros: dict[str, int]) -> tuple[nn.Module, Sparsifier, Any]:
    model = network()
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=STEPS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier.attach(optimizer)
    return model, sparsifier, optimizer


def blocks(matrix: Tensor, height: int, width: int) -> bool:
    """Whether a matrix is zero or nonzero in whole blocks."""
    zero = (matrix == 0).reshape(len(matrix) // height, height, -1, width)
    return bool((zero.all((1, 3)) | ~zero.any((1, 3))).all())


def assert_whole_units(model: nn.Module) -> None:
    """By reshapes that are written for these shapes."""
    known = dict(model.named_parameters())
    first = known["0.weight"].detach().permute(0, 2, 3, 1).reshape(16, 27)
    assert blocks(first, 4, 1)
    assert not blocks(first, 8, 1)
    kept = (known["2.weight"] != 0).reshape(8, 4, 4).sum(2)
    assert (kept == 2).all()
    assert blocks(known["4.weight"].detach()[:, :, 0, 0].T, 4, 4)
    assert blocks(known["6.weight"].detach(), 1, 8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GradualConfig(pattern=PATTERNS, **RAMP),
        lambda: GradualConfig(pattern=PATTERNS, criterion="snip", **RAMP),
        lambda: GradualConfig(pattern=PATTERNS, ramp="oneshot", **RAMP),
        lambda: GroupLassoConfig(pattern=PATTERNS, alpha=0.01, **RAMP),
        lambda: MovementConfig(pattern=PATTERNS | {"2.weight": "1x2"}, steps="weights", **RAMP),
    ],
    ids=["gradual", "snip", "oneshot", "lasso", "movement"],
)
def test_training_ends_with_exact_counts_in_whole_units(make: Callable[[], Any]) -> None:
    config = make()
    model, sparsifier, optimizer = attached(config, ZEROS)
    train(model, optimizer, range(STEPS))
    sparsifier.finalize()
    for name, count in ZEROS.items():
        assert int((model.get_parameter(name) == 0).sum()) == count, name
    if not isinstance(config, MovementConfig):
        assert_whole_units(model)
    check_whole_units(model, ZEROS, pattern=config.pattern)


@pytest.mark.parametrize("kind", [SrSteConfig, MdgfConfig])
def test_nm_methods_train_another_n_of_m_in_each_layer(kind: Any) -> None:
    patterns = {"2.weight": "1:4", "6.weight": "2:4", "0.weight": "4x1"}
    zeros = {"2.weight": 96, "6.weight": 24}
    config = kind(pattern=patterns, dense=0.2)
    model, sparsifier, optimizer = attached(config, zeros)
    train(model, optimizer, range(STEPS))
    sparsifier.finalize()
    assert ((model[2].weight != 0).reshape(8, 4, 4).sum(2) == 1).all()
    assert ((model[6].weight != 0).reshape(6, 2, 4).sum(2) == 2).all()
    with pytest.raises(UserError, match="`pattern` 4x1: this method trains N:M patterns"):
        Sparsifier(network(), config, zeros={"0.weight": 200}, total_steps=STEPS)


def test_a_resumed_training_is_the_same_and_other_patterns_are_refused() -> None:
    config = GradualConfig(pattern=PATTERNS, **RAMP)  # type: ignore[arg-type]
    model, sparsifier, optimizer = attached(config, ZEROS)
    train(model, optimizer, range(8))
    saved = copy.deepcopy((model.state_dict(), sparsifier.state_dict(), optimizer.state_dict()))
    train(model, optimizer, range(8, STEPS))
    sparsifier.finalize()

    again, other, second = attached(config, ZEROS)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    train(again, second, range(8, STEPS))
    other.finalize()
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name

    changed = GradualConfig(pattern=PATTERNS | {"4.weight": "2x2"}, **RAMP)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"the pattern 4x4 for 4\.weight, now it is 2x2"):
        attached(changed, ZEROS)[1].load_state_dict(saved[1])
    plain = GradualConfig(**RAMP)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"the pattern 4x1 for 0\.weight, now it is another"):
        attached(plain, ZEROS)[1].load_state_dict(saved[1])
    with pytest.raises(UserError, match=r"the pattern another for 0\.weight, now it is 4x1"):
        attached(config, ZEROS)[1].load_state_dict(attached(plain, ZEROS)[1].state_dict())


def test_pruning_once_takes_a_pattern_for_each_layer() -> None:
    model = network()
    magnitudes = model[6].weight.detach().abs().mean(1)
    prune_once(model, ZEROS, pattern=PATTERNS)
    assert_whole_units(model)
    gone = set((model[6].weight == 0).all(1).nonzero()[:, 0].tolist())
    assert gone == set(magnitudes.argsort()[:3].tolist())


def test_zeros_that_are_no_whole_units_are_found() -> None:
    model = network()
    prune_once(model, ZEROS, pattern=PATTERNS)
    check_whole_units(model, ZEROS, pattern=PATTERNS)
    with torch.no_grad():
        place = (model[4].weight == 0).nonzero()[0]
        model[4].weight[tuple(place)] = 1.0
    with pytest.raises(RuntimeError, match=r"4\.weight: 16 zeros in whole units of 4x4, 32 plan"):
        check_whole_units(model, ZEROS, pattern=PATTERNS)
    with torch.no_grad():
        model[2].weight[0, :4] = torch.tensor([1.0, 2.0, 3.0, 0.0])
        model[2].weight[1, :4] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    with pytest.raises(RuntimeError, match=r"2\.weight: 62 zeros in whole units of n:4"):
        check_whole_units(model, {"2.weight": 64}, pattern={"2.weight": "n:4"})


def test_layers_without_a_pattern_and_patterns_of_several_layers_are_refused() -> None:
    with pytest.raises(UserError, match=r"`pattern` per layer \(4x1\): none is given for 2\.weig"):
        Sparsifier(
            network(), GradualConfig(pattern={"0.weight": "4x1"}), zeros=ZEROS, total_steps=STEPS
        )
    with pytest.raises(UserError, match=r"`pattern` mha of 0\.weight: several layers share"):
        as_pattern({"0.weight": "mha"})
    with pytest.raises(UserError, match=r"`pattern` 4y4: no such pattern"):
        as_pattern({"0.weight": "4y4"})
    with pytest.raises(UserError, match=r"whole units of the pattern make"):
        attached(GradualConfig(pattern=PATTERNS), ZEROS | {"4.weight": 33})
