"""Weights written between steps are never thrown away, and pruned ones never stay written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.support.every_method import CASES, LAYERS, STEPS, Case, loss_of, network, train
from ws_learner import UserError
from ws_learner.pruning import (
    MdgfConfig,
    MovementConfig,
    PatternLockConfig,
    SdgfConfig,
    Sparsifier,
    SrSteConfig,
    found_zeros,
)

NM_CASES = ("srste", "decoupled srste", "mdgf", "sdgf")


def sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def by_load(model: nn.Module, values: dict[str, Tensor]) -> None:
    model.load_state_dict(values)


def by_data(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data.copy_(values[name])  # no version counter sees it


def by_copy(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])


WRITES: dict[str, Callable[[nn.Module, dict[str, Tensor]], None]] = {
    "load_state_dict": by_load,
    "data.copy_": by_data,
    "copy_": by_copy,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("case", [case for case in CASES if case != "pattern_lock"])
def test_loading_after_attach_is_loading_before(case: str, write: str) -> None:
    ends = []
    for late in (False, True):
        model, values = network(0), network(1).state_dict()
        if not late:
            WRITES[write](model, values)
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        if late:
            WRITES[write](model, values)
        train(model, optimizer)
        ends.append(sparsifier.finalize().state_dict() | sparsifier.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("case", NM_CASES)
def test_latent_weights_take_over_what_is_written(
    case: str, write: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept: the new value. Pruned: the new value unless it is 0, then the latent one."""
    model = network()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(12))
    mask = sparsifier.masks["0.weight"].clone()
    latent = sparsifier.state_dict()["latent.0.weight"]
    assert not mask.all()
    values = network(2).state_dict()
    values["0.weight"][::2] = 0
    WRITES[write](model, values)
    expected = torch.where(mask | (values["0.weight"] != 0), values["0.weight"], latent)
    after = sparsifier.state_dict()
    assert torch.equal(after["latent.0.weight"], expected)
    assert "steps: 0.weight (" in capsys.readouterr().err
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # nothing else moves
    sparsifier.detach()
    sparsifier.attach(optimizer)
    train(model, optimizer, [12])
    assert torch.equal(sparsifier.state_dict()["latent.0.weight"], expected)


@pytest.mark.parametrize("case", NM_CASES)
def test_nothing_written_changes_nothing(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither saving nor loading what is there, nor averages of it."""
    ends = []
    for touched in (False, True):
        model = network()
        sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)

        def touch(step: int, model: nn.Module = model, sparsifier: Sparsifier = sparsifier) -> None:
            model.load_state_dict(copy.deepcopy(model.state_dict()))
            sparsifier.state_dict()

        train(model, optimizer, between=touch if touched else lambda step: None)
        ends.append(sparsifier.finalize().state_dict() | sparsifier.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("case", NM_CASES)
def test_clamped_weights_stay_clamped(case: str) -> None:
    model = network()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)

    def clamp(step: int) -> None:
        with torch.no_grad():
            for name in LAYERS:
                model.get_parameter(name).clamp_(-0.05, 0.05)

    train(model, optimizer, between=clamp)
    clamp(STEPS)
    latent = sparsifier.state_dict()["latent.0.weight"]
    assert float(latent[sparsifier.masks["0.weight"]].abs().max()) == pytest.approx(0.05)
    sparsifier.finalize()


@pytest.mark.parametrize("case", ["gradual", "feedback", "movement"])
def test_a_pruned_weight_returns_with_what_was_written(case: str) -> None:
    """Restored weights of an earlier time: what is pruned now comes back with that value."""
    model = network()
    sparsifier = CASES[case].sparsifier(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(13))
    mask = sparsifier.masks["0.weight"].clone()
    values = {name: value + 1 for name, value in network(3).state_dict().items()}
    model.load_state_dict(values)
    train(model, optimizer, [13])
    assert not model.get_parameter("0.weight").detach()[~sparsifier.masks["0.weight"]].any()
    retained = sparsifier.state_dict()["retained.0.weight"]
    assert torch.equal(retained[~mask], values["0.weight"][~mask])


EVERY = {name: case for name, case in CASES.items() if name != "mdgf"}


@pytest.mark.parametrize("case", EVERY)
def test_written_zeros_are_noticed_at_the_next_step(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(14))
    capsys.readouterr()
    mask, weight = sparsifier.masks["2.weight"].clone(), model.get_parameter("2.weight")
    weight.data[~mask] = 0.25
    train(model, optimizer, [14])
    said = capsys.readouterr().err
    assert f"between optimizer steps: 2.weight ({int((~mask).sum())})." in said
    assert "0.weight" not in said
    assert not weight.detach()[~sparsifier.masks["2.weight"]].any()


@pytest.mark.parametrize("case", CASES)
def test_written_zeros_are_noticed_at_the_end(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer)
    capsys.readouterr()
    mask, weight = sparsifier.masks["0.weight"].clone(), model.get_parameter("0.weight")
    weight.data[~mask] = 0.25
    sparsifier.finalize()
    assert f"between optimizer steps: 0.weight ({int((~mask).sum())})." in capsys.readouterr().err
    assert torch.equal(weight.detach() == 0, ~mask)


def test_every_case_is_silent_where_nobody_writes(capsys: pytest.CaptureFixture[str]) -> None:
    for case in CASES.values():
        model = network()
        sparsifier, optimizer = case.sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        train(model, optimizer)
        sparsifier.finalize()
    assert "warning" not in capsys.readouterr().err


def test_a_lock_takes_its_masks_from_the_weights_it_is_attached_to() -> None:
    """Weights loaded in between: other zeros of the same number are locked, others refused."""
    model, other = network(), network(1)
    for name in LAYERS:
        model.get_parameter(name).data[:, ::2] = 0
        other.get_parameter(name).data[:, 1::2] = 0
    lock = Sparsifier(model, PatternLockConfig(), zeros=found_zeros(model), total_steps=5)
    model.load_state_dict(other.state_dict())
    optimizer = sgd(model)
    lock.attach(optimizer)
    train(model, optimizer, range(5))
    lock.finalize()
    for name in LAYERS:
        weight = model.get_parameter(name).detach()
        assert torch.equal(weight == 0, other.get_parameter(name) == 0)
    again = Sparsifier(model, PatternLockConfig(), zeros=found_zeros(model), total_steps=5)
    model.load_state_dict(network(2).state_dict())
    with pytest.raises(UserError, match=r"0\.weight has 0 zeros now, 32 when"):
        again.attach(sgd(model))


def test_scores_start_from_the_weights_of_the_first_step() -> None:
    """Two ranks are built from different seeds; the wrap shares the first one's weights."""
    config = MovementConfig(iter_ratio_beg=0.0, iter_ratio_end=0.8, mask_update_step=2)
    masks = []
    for seed in (0, 1):
        model = network(seed)
        sparsifier = Sparsifier(model, config, zeros=dict.fromkeys(LAYERS, 32), total_steps=10)
        optimizer = sgd(model)
        sparsifier.attach(optimizer)
        model.load_state_dict(network(0).state_dict())  # as DistributedDataParallel does
        train(model, optimizer, range(10))
        sparsifier.finalize()
        masks.append(sparsifier.masks)
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in LAYERS)
    untouched = network(1)
    state = Sparsifier(untouched, config, zeros={"0.weight": 32}, total_steps=10).state_dict()[
        "criterion.0.weight"
    ]
    sizes = untouched.get_parameter("0.weight").detach().abs()
    torch.testing.assert_close(state, sizes / sizes.mean())


@pytest.mark.parametrize("config", [SrSteConfig(), MdgfConfig(), SdgfConfig()], ids=repr)
def test_an_oracle_of_one_step_after_a_load(config: Any) -> None:
    """Straight-through SGD by hand: latent' = loaded - lr x gradient at the loaded weights."""
    model = network()
    sparsifier = Case(config).sparsifier(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(19))  # the mask value is 0 there
    loaded = network(4)
    model.load_state_dict(loaded.state_dict())
    mask = sparsifier.masks["0.weight"].clone()
    loss_of(loaded, 19).backward()
    weight = loaded.get_parameter("0.weight")
    assert weight.grad is not None
    grad = weight.grad.clone()
    if isinstance(config, SrSteConfig):
        grad += config.weight * weight.detach() * ~mask
    elif config.gradient == "chain":
        grad *= mask
    train(model, optimizer, [19])
    got = sparsifier.state_dict()["latent.0.weight"]
    torch.testing.assert_close(got, weight.detach() - 0.1 * grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["gradual", "pattern_lock", "srste", "mdgf"])
def test_bfloat16_weights_are_looked_at_too(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = network().bfloat16()
    sparsifier, optimizer = CASES[case].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer)
    assert "between" not in capsys.readouterr().err
    mask, weight = sparsifier.masks["0.weight"].clone(), model.get_parameter("0.weight")
    weight.data[~mask] = 0.25
    sparsifier.finalize()
    assert f"steps: 0.weight ({int((~mask).sum())})." in capsys.readouterr().err
    assert torch.equal(weight.detach() == 0, ~mask)
