"""Adam regression, batch-norm recalibration and fine-tuning."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.rollout_parts import table_of, tiny_data, tiny_network, trained_network
from ws_learner.pruning.layers.table import modules_by_weight, parameter_of
from ws_learner.pruning.patterns.mask import keep_largest
from ws_learner.search.rollout.adam_regression import layer_output, regress_by_adam
from ws_learner.search.rollout.batchnorm import recalibrate
from ws_learner.search.rollout.finetune import fine_tune


def test_adam_brings_layer_outputs_nearer_to_the_dense_ones() -> None:
    data = tiny_data()
    dense = trained_network(data)
    layers = table_of(dense)
    pruned = copy.deepcopy(dense)
    masks = []
    for row in layers:
        weight = parameter_of(pruned, row.name)
        masks.append(keep_largest(weight.abs(), row.weights // 2))
        weight.data.mul_(masks[-1])
    before = copy.deepcopy(pruned)
    batches = [x for epoch in range(4) for x, _ in data.train.batches(32, seed=epoch)][:20]
    regress_by_adam(pruned, dense, layers=layers, masks=masks, batches=batches, lrn_rate=5e-3)

    fresh, _ = next(iter(data.search.batches(100)))

    def error(model: nn.Module, index: int) -> float:
        ours = layer_output(model, modules_by_weight(model, layers)[layers[index].name], fresh)
        theirs = layer_output(dense, modules_by_weight(dense, layers)[layers[index].name], fresh)
        assert ours is not None
        assert theirs is not None
        return float((ours - theirs).detach().square().sum())

    for index in range(len(layers)):
        assert error(pruned, index) < error(before, index)
    for row, mask in zip(layers, masks, strict=True):
        assert torch.equal(parameter_of(pruned, row.name) != 0, mask)
    changed = {
        name
        for name, value in pruned.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert changed == {row.name for row in layers}


def test_recalibrated_statistics_are_those_of_the_images() -> None:
    torch.manual_seed(0)
    model = tiny_network()
    model[4].momentum = 0.3
    images = torch.randn(24, 3, 8, 8) * 2 + 1
    recalibrate(model, [images])
    with torch.no_grad():
        first = model[0](images).double()
        mean, var = first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=True)
        biased = first.var((0, 2, 3), unbiased=False)
        normal = (first - mean[:, None, None]) / (biased[:, None, None] + model[1].eps).sqrt()
        second = model[3](normal.relu().float()).double()
    torch.testing.assert_close(model[1].running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_var.double(), var, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model[4].running_mean.double(), second.mean((0, 2, 3)), rtol=1e-3, atol=1e-4
    )
    assert model[4].momentum == 0.3
    assert all(module.training for module in model.modules())


def test_recalibration_averages_over_batches_and_ignores_the_past() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3))
    model(torch.randn(50, 3) * 9)
    parts = torch.randn(2, 16, 3)
    recalibrate(model.eval(), list(parts))
    torch.testing.assert_close(model[0].running_mean, parts.mean(1).mean(0))
    torch.testing.assert_close(model[0].running_var, parts.var(1).mean(0))
    assert not model[0].training


def test_recalibration_without_batch_norm_does_not_run_the_model() -> None:
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return super().forward(x)

    recalibrate(nn.Sequential(Counting(2, 2)), [torch.zeros(4, 2)])
    assert Counting.calls == 0


def test_recalibration_without_images_leaves_the_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    model(torch.randn(8, 2) + 5)
    before = copy.deepcopy(model.state_dict())
    recalibrate(model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0])
def test_fine_tuning_lowers_the_loss_and_leaves_no_residue_in_pruned_weights(
    ratio: float,
) -> None:
    data = tiny_data()
    model = trained_network(data)
    layers = table_of(model)
    parameters = [parameter_of(model, row.name) for row in layers]
    masks = [keep_largest(p.abs(), round(ratio * p.numel())) for p in parameters]
    for parameter, mask in zip(parameters, masks, strict=True):
        parameter.data.mul_(mask)
    statistics = model[1].running_mean.clone()
    scale = model[1].weight.detach().clone()
    batches = list(data.train.batches(32, seed=1))

    def loss() -> float:
        with torch.no_grad():
            each = [functional.cross_entropy(model(x), y) for x, y in batches]
        return float(torch.stack(each).mean())

    before = loss()
    fine_tune(
        model,
        batches * 3,
        loss=functional.cross_entropy,
        lrn_rate=3e-3,
        parameters=parameters,
        masks=masks,
    )
    assert loss() < before
    for parameter, mask in zip(parameters, masks, strict=True):
        assert bool((parameter[~mask] == 0).all())
    assert torch.equal(model[1].running_mean, statistics)
    if ratio < 1:
        assert not torch.equal(model[1].weight, scale)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
