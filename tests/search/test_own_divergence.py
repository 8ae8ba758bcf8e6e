"""Own divergences: copies of the network with one layer pruned, and their file."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.digits import digits_splits
from tests.support.slope_nets import slope_evaluator, trained
from ws_learner.pruning.layers.table import parameter_of
from ws_learner.search.rollout import own_divergence
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.own_divergence import OWN_DENSITIES


def measured(evaluator: RolloutEvaluator) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    found = evaluator.own_divergences()
    assert found is not None
    assert found[0].tolist() == list(OWN_DENSITIES)
    return found[1]


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_they_are_those_of_copies_with_one_layer_pruned(kind: str) -> None:
    evaluator = slope_evaluator(trained(kind), batch_size_eval=200, nb_smpls_own=200)
    own = measured(evaluator)
    ((inputs, _),) = digits_splits().search.batches(200)
    for layer, row in enumerate(evaluator.layers):
        for place, density in enumerate(OWN_DENSITIES):
            network = copy.deepcopy(evaluator.dense)
            zeros = row.weights - round(density * row.weights)
            with torch.no_grad():
                parameter_of(network, row.name).copy_(evaluator.database.weights(layer, zeros))
            outputs = []
            for net in (network, copy.deepcopy(evaluator.dense)):
                for module in net.modules():
                    module.train(isinstance(module, nn.BatchNorm2d))
                with torch.no_grad():
                    outputs.append(net(inputs).double().log_softmax(1))
            kl = float((outputs[1].exp() * (outputs[1] - outputs[0])).sum(1).mean())
            assert own[layer, place] == pytest.approx(kl, rel=1e-3, abs=1e-6)


def test_the_file_is_read_only_for_the_same_network_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, measure = [], own_divergence.measure_own_divergences

    def counted(*args: object, **options: object) -> object:
        calls.append(1)
        return measure(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(own_divergence, "measure_own_divergences", counted)
    model = trained("mlp")
    first = measured(slope_evaluator(model, cache_dir=tmp_path))
    (file,) = tmp_path.glob("own-*")
    assert measured(slope_evaluator(model, cache_dir=tmp_path)).tolist() == first.tolist()
    assert len(calls) == 1
    # Other search images: another seed takes other ones first.
    other = slope_evaluator(model, cache_dir=tmp_path, seed=1, nb_smpls_own=50, batch_size_eval=50)
    assert measured(other).tolist() != first.tolist()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).mul_(1.01)
    assert measured(slope_evaluator(changed, cache_dir=tmp_path)).tolist() != first.tolist()
    assert measured(slope_evaluator(model, cache_dir=tmp_path, rg_solver="none")).tolist()
    assert len(calls) == 4
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[:-8] + bytes(8)):
        file.write_bytes(damaged)
        assert measured(slope_evaluator(model, cache_dir=tmp_path)).tolist() == first.tolist()
    assert len(calls) == 7
    assert measured(slope_evaluator(model, cache_dir=tmp_path)).tolist() == first.tolist()
    assert len(calls) == 7  # the file was mended


def test_exempt_layers_have_none_and_answers_are_copies() -> None:
    evaluator = slope_evaluator(trained("mlp"))
    rows = list(evaluator.layers)
    evaluator.layers = (replace(rows[0], exempt=True), *rows[1:])
    before = {name: value.clone() for name, value in evaluator.dense.state_dict().items()}
    own = measured(evaluator)
    assert (own[0] == 0).all()
    assert (own[1:, 0] > 0).all()
    own[:] = -1
    assert (measured(evaluator) >= 0).all()
    for name, value in evaluator.dense.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_that_breaks_without_a_layer_has_the_worst_divergence() -> None:
    class Fragile(nn.Module):
        """NaN without its first layer's weights."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 20)
            self.out = nn.Linear(20, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            hidden = self.inner(images.flatten(1))
            result: torch.Tensor = self.out(hidden / (self.inner.weight.abs().sum() > 0))
            return result + 0 * hidden.sum() / (self.inner.weight.abs().sum() > 0)

    torch.manual_seed(0)
    own = measured(slope_evaluator(Fragile().eval()))
    assert own[0, 0] == 100.0
    assert np.isfinite(own).all()
