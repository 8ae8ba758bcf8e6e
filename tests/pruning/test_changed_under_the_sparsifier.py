"""What a loop may do to the model and the optimizer that a `Sparsifier` follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.every_method import CASES, LAYERS, RAMP, network, train
from ws_learner.compat import LpotConf
from ws_learner.compat.lpot.pruning import Pruning, common
from ws_learner.compat.lpot.schema import Pruner
from ws_learner.core import UserError
from ws_learner.pruning import GradualConfig, Sparsifier


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@pytest.mark.parametrize("method", CASES)
def test_a_replaced_parameter_is_refused_and_not_called_sparse(method: str) -> None:
    model = network()
    sparsifier, optimizer = CASES[method].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer)
    model[0].weight = nn.Parameter(torch.ones(8, 8))
    with pytest.raises(UserError, match=r"0\.weight: the model has another parameter"):
        sparsifier.finalize()


@pytest.mark.parametrize("method", CASES)
def test_a_parameter_replaced_before_attach_is_refused(method: str) -> None:
    model = network()
    sparsifier = CASES[method].sparsifier(model)
    model[0] = nn.Linear(8, 8)
    with pytest.raises(UserError, match=r"0\.weight: the model has another parameter"):
        sparsifier.attach(sgd(model))


def test_a_replaced_parameter_is_refused_in_lpots_loop() -> None:
    prune = Pruning(LpotConf(target_sparsity=0.5, end_epoch=0, pruners=(Pruner(),)))
    prune.model = common.Model(network())

    def loop(model: nn.Module) -> None:
        prune.on_epoch_begin(0)
        model.get_submodule("0").weight = nn.Parameter(torch.ones(8, 8))

    prune.pruning_func = loop
    with pytest.raises(UserError, match=r"0\.weight: the model has another parameter"):
        prune()


@pytest.mark.parametrize("method", ["movement", "threshold movement"])
def test_a_learning_rate_schedule_is_not_that_of_the_scores(method: str) -> None:
    def learned(*, scheduled: bool) -> dict[str, torch.Tensor]:
        model = network()
        sparsifier, optimizer = CASES[method].sparsifier(model), sgd(model)
        sparsifier.attach(optimizer)
        rates = [lambda step: 1.0, lambda step: 100.0]  # the second is the scores' group
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        train(model, optimizer, between=lambda _: schedule.step() if scheduled else None)
        return sparsifier.state_dict()

    plain, scheduled = learned(scheduled=False), learned(scheduled=True)
    assert all(torch.equal(plain[key], scheduled[key]) for key in plain)


@pytest.mark.parametrize("criterion", ["gradient", "snip", "snip_momentum"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_frozen_layer_is_ranked_by_magnitude_and_mentioned(
    criterion: str, scope: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.detach().abs().clone()
    config = GradualConfig(criterion=criterion, scope=scope, **RAMP)  # type: ignore[arg-type]
    sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(LAYERS, 0.25), total_steps=20)
    optimizer = sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer)
    sparsifier.finalize()
    pruned = ~sparsifier.masks["0.weight"]
    assert before[pruned].max() < before[~pruned].min()
    said = capfd.readouterr().err
    assert said.count("no gradient has reached 0.weight") == 1
    assert "2.weight (" not in said
    assert ("first to go" in said) == (scope == "global")


def test_a_frozen_layer_is_ranked_by_magnitude_in_lpots_loop(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.detach().abs().clone()
    pruner = Pruner(prune_type="gradient_sensitivity", start_epoch=1, end_epoch=1)
    prune = Pruning(LpotConf(target_sparsity=0.5, pruners=(pruner,)))
    prune.model = common.Model(model)

    def loop(model: nn.Module) -> None:
        optimizer = sgd(model)
        for epoch in range(2):
            prune.on_epoch_begin(epoch)
            train(model, optimizer, range(3))

    prune.pruning_func = loop
    prune()
    kept = model[0].weight != 0
    assert int(kept.sum()) == 32
    assert before[~kept].max() < before[kept].min()
    assert "no gradient has reached 0.weight" in capfd.readouterr().err


@pytest.mark.parametrize("bound", [{"ratio_max": 0.3}, {"ratio_min": 0.7}])
def test_bounds_of_layers_that_no_profile_meets_are_refused(bound: dict[str, float]) -> None:
    config = GradualConfig(scope="global", **RAMP, **bound)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=next(iter(bound))):
        Sparsifier(network(), config, ratios=dict.fromkeys(LAYERS, 0.5), total_steps=20)


@pytest.mark.parametrize("steps", [0, -1])
def test_an_epoch_has_at_least_a_step(steps: int) -> None:
    with pytest.raises(UserError, match="`steps_per_epoch`"):
        GradualConfig(update_frequency=1.0, steps_per_epoch=steps)


def test_a_state_of_a_longer_training_is_refused() -> None:
    model = network()
    short, optimizer = CASES["gradual"].sparsifier(model, 20), sgd(model)
    short.attach(optimizer)
    train(model, optimizer, range(10))
    state = short.state_dict()
    with pytest.raises(UserError, match=r"the sparsity would jump.*`total_steps`"):
        CASES["gradual"].sparsifier(model, 40).load_state_dict(state)
    again = CASES["gradual"].sparsifier(model, 20)
    again.load_state_dict({key: value for key, value in state.items() if key != "planned"})
    assert again.step == 10  # states of earlier versions say nothing of the plan


def test_scores_that_are_not_numbers_prune_nothing() -> None:
    model = network()
    sparsifier, optimizer = CASES["threshold movement"].sparsifier(model), sgd(model)
    sparsifier.attach(optimizer)
    train(model, optimizer, range(8))
    model[0].weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"a score of .*weight is NaN; has the training diverged"):
        train(model, optimizer, range(8, 10))
