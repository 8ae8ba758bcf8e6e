"""Slopes of the reward: exact as a first-order term, and like differences of real rollouts."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.problem import FloatArray, IntArray
from tests.support.digits import digits_splits
from tests.support.slope_nets import NETS, slope_evaluator, trained
from ws_learner.pruning.layers.table import parameter_of
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.local_pool import LocalPool
from ws_learner.search.rollout.slopes import (
    STEP,
    batch_statistics,
    divergence_gradients,
    log_density_slopes,
)

nets = pytest.mark.parametrize("kind", NETS)


def sizes_of(evaluator: RolloutEvaluator) -> IntArray:
    return np.array([row.weights for row in evaluator.layers], np.int64)


def at(evaluator: RolloutEvaluator, ratio: float) -> IntArray:
    return np.rint(ratio * sizes_of(evaluator)).astype(np.int64)


def slopes_of(evaluator: RolloutEvaluator, zeros: IntArray) -> FloatArray:
    slopes = evaluator.score(zeros).slopes
    assert slopes is not None
    return np.array(slopes)


@pytest.mark.parametrize(("kind", "steps"), [("conv", 0), ("mlp", 2), ("transformer", 0)])
def test_it_is_the_directional_derivative_of_the_divergence(kind: str, steps: int) -> None:
    """Along the change of the database's weight, with batch statistics, by tiny differences."""
    settings = {"nb_iters_ft": steps, "lrn_rate_ft": 1e-3, "batch_size_eval": 200}
    evaluator = slope_evaluator(trained(kind), **settings)
    zeros, sizes = at(evaluator, 0.8), sizes_of(evaluator)
    slopes = slopes_of(evaluator, zeros)
    network = evaluator.network(zeros).double()
    dense = copy.deepcopy(evaluator.dense).double()
    for layer, row in enumerate(evaluator.layers):
        weight, kept = parameter_of(network, row.name), int(sizes[layer] - zeros[layer])
        more, fewer = (min(sizes[layer], round(kept * math.exp(step))) for step in (STEP, -STEP))
        high, low = (
            evaluator.database.weights(layer, int(sizes[layer] - n)).double() for n in (more, fewer)
        )
        change, tiny = (high - low) / math.log(more / fewer), 1e-6
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * tiny * change)
            found.append(_batch_kl(network, dense))
            with torch.no_grad():
                weight.sub_(sign * tiny * change)
        numeric = (found[0] - found[1]) / (2 * tiny)
        assert slopes[layer] == pytest.approx(numeric, rel=2e-3, abs=1e-4)


def _batch_kl(network: nn.Module, dense: nn.Module) -> float:
    """Mean KL on the search split, the pruned network with statistics of the batch."""
    total, seen = 0.0, 0
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    means = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for inputs, _ in digits_splits().search.batches(200):
            wide = inputs.double()
            ours, theirs = network(wide).log_softmax(1), dense(wide).log_softmax(1)
            total += float((theirs.exp() * (theirs - ours)).sum())
            seen += len(inputs)
    for norm, (mean, variance) in zip(norms, means, strict=True):
        norm.eval()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return total / seen


def differences(
    evaluator: RolloutEvaluator, zeros: IntArray, steps: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    """Mean and spread over step sizes of central differences of real rollouts, (L,) each."""
    sizes, found = sizes_of(evaluator), []
    for step in steps:
        row = []
        for layer, size in enumerate(sizes.tolist()):
            kept = size - int(zeros[layer])
            ends = [min(size, round(kept * math.exp(sign * step))) for sign in (1, -1)]
            moved = []
            for end in ends:
                there = zeros.copy()
                there[layer] = size - end
                divergence = evaluator.score(there).divergence
                assert divergence is not None
                moved.append(divergence)
            row.append((moved[0] - moved[1]) / math.log(ends[0] / ends[1]))
        found.append(row)
    return np.mean(found, 0), np.std(found, 0)


def compare(kind: str, *, ratios: tuple[float, ...], steps: tuple[float, ...], tuning: int) -> None:
    """Where the differences agree among themselves, slopes point the same way."""
    evaluator = slope_evaluator(trained(kind), nb_iters_ft=tuning, lrn_rate_ft=1e-3)
    ours, real, noise = [], [], []
    for ratio in ratios:
        zeros = at(evaluator, ratio)
        mean, spread = differences(evaluator, zeros, steps)
        ours.append(slopes_of(evaluator, zeros))
        real.append(mean)
        noise.append(spread + 2e-4)
    slopes, wanted, spread = (np.concatenate(each) for each in (ours, real, noise))
    clear = np.abs(wanted) > 2 * spread
    assert clear.sum() >= 3
    slopes, wanted = slopes[clear], wanted[clear]
    cosine = slopes @ wanted / np.linalg.norm(slopes) / np.linalg.norm(wanted)
    ratio = np.linalg.norm(slopes) / np.linalg.norm(wanted)
    assert cosine > 0.6
    # With a regressed weight at the minimum over its support, adding weights counts twice to first
    # order, and losing some not at all: between 0 and 2, as the one or the other prevails.
    assert 0.1 < ratio < 2.2
    assert np.mean(np.sign(slopes) == np.sign(wanted)) >= 0.9


@pytest.mark.long
@nets
def test_slopes_are_like_differences_of_rollouts(kind: str) -> None:
    tuning = 2 if kind == "mlp" else 0
    ratios = (0.7,) if kind == "transformer" else (0.6, 0.75)
    compare(kind, ratios=ratios, steps=(0.12, 0.25), tuning=tuning)


@pytest.mark.slow
@nets
@pytest.mark.parametrize("tuning", [0, 3])
def test_slopes_are_like_differences_of_rollouts_at_more_steps(kind: str, tuning: int) -> None:
    compare(kind, ratios=(0.5, 0.6, 0.7, 0.75), steps=(0.08, 0.12, 0.16, 0.25), tuning=tuning)


@pytest.mark.long
def test_the_same_bits_twice_and_in_a_worker_process() -> None:
    evaluator = slope_evaluator(trained("conv"))
    candidates = [at(evaluator, ratio) for ratio in (0.5, 0.7, 0.8, 0.9)]
    first = [evaluator.score(zeros).slopes for zeros in candidates]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = [evaluator.score(zeros).slopes for zeros in reversed(candidates)]
    finally:
        torch.set_num_threads(threads)
    assert again[::-1] == first
    assert [slope_evaluator(trained("conv")).score(candidates[0]).slopes] == first[:1]
    with LocalPool(evaluator, workers=2) as pool:
        assert [score.slopes for score in pool.evaluate(candidates)] == first


@nets
def test_rewards_do_not_depend_on_slopes(kind: str) -> None:
    plain = slope_evaluator(trained(kind), nb_smpls_slope=0)
    evaluator = slope_evaluator(trained(kind))
    before = {name: value.clone() for name, value in evaluator.dense.state_dict().items()}
    for ratio in (0.0, 0.6, 0.9, 1.0):
        zeros = at(plain, ratio)
        score, bare = evaluator.score(zeros), plain.score(zeros)
        assert score == bare  # slopes and seconds are not compared
        assert bare.slopes is None
        assert score.slopes is not None
        assert len(score.slopes) == len(zeros)
    for name, value in evaluator.dense.state_dict().items():
        assert torch.equal(value, before[name])


def test_no_slopes_for_an_accuracy_or_on_another_split() -> None:
    evaluator = slope_evaluator(trained("mlp"))
    zeros = at(evaluator, 0.7)
    assert evaluator.on(digits_splits().select).score(zeros).slopes is None

    class Unknown(nn.Module):
        """Outputs whose meaning nobody knows."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = trained("mlp")

        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.inner(images)
            return scores.argmax(1, keepdim=True).float()

    def right(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] == targets).float()

    blind = slope_evaluator(Unknown(), metric=right, reward_signal="accuracy")
    score = blind.score(zeros)
    assert not score.failed
    assert score.slopes is None
    assert blind.own_divergences() is None


def test_a_dense_layer_looks_down_and_an_empty_one_has_no_slope() -> None:
    evaluator = slope_evaluator(trained("mlp"))
    zeros, sizes = at(evaluator, 0.7), sizes_of(evaluator)
    zeros[0], zeros[1] = 0, sizes[1]
    slopes = slopes_of(evaluator, zeros)
    assert np.isfinite(slopes[[0, 2, 3]]).all()
    assert math.isnan(slopes[1])
    zeros[1] = sizes[1] - 1  # one weight left can only become more
    assert np.isfinite(slopes_of(evaluator, zeros)).all()
    # The dense network is the minimum of its own divergence.
    assert slopes_of(evaluator, np.zeros(4, np.int64)) == pytest.approx(np.zeros(4), abs=1e-5)


@pytest.mark.parametrize("pattern", ["2:4", "n:4", "channelx1", "4x1"])
def test_patterns_have_slopes_between_counts_they_allow(pattern: str) -> None:
    model = trained("mlp")
    evaluator = slope_evaluator(model, pattern=pattern)
    for ratio in (0.25, 0.5, 0.7):
        zeros = evaluator.checked(at(evaluator, ratio))
        score = evaluator.score(zeros)
        assert not score.failed
        assert score.slopes is not None
        assert not any(math.isinf(slope) for slope in score.slopes)
        for layer, slope in enumerate(score.slopes):
            if math.isnan(slope):
                continue
            size = evaluator.layers[layer].weights
            ends = []
            for step in (STEP, -STEP):
                kept = round((size - int(zeros[layer])) * math.exp(step))
                ends.append(evaluator.database.fitted(layer, size - min(kept, size)))
            assert ends[0] < ends[1] < size


class Partial(nn.Module):
    """The second layer is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.out = nn.Linear(64, 20), nn.Linear(64, 20), nn.Linear(20, 10)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.out(self.used(images.flatten(1)).relu())
        return result


class Detached(nn.Module):
    """Its answers know no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 10)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.inner(images.flatten(1))
        return result


def test_a_layer_that_is_not_used_has_no_slope() -> None:
    network = Partial()
    evaluator = slope_evaluator(trained("mlp"))
    found = divergence_gradients(
        network, evaluator._exam, weights=[network.used.weight, network.idle.weight], examples=100
    )
    assert found[0] is not None
    assert found[1] is None
    options: dict[str, Any] = {
        "weight_at": lambda _, zeros: torch.ones(4),
        "fitted": lambda _, n: n,
    }
    sizes = np.array([64, 64])
    slopes = log_density_slopes([torch.ones(4), None], kept=sizes // 2, sizes=sizes, **options)
    assert slopes[0] == 0
    assert math.isnan(slopes[1])


def test_a_forward_without_gradient_is_scored_without_slopes() -> None:
    torch.manual_seed(0)
    evaluator = slope_evaluator(Detached().eval())
    score = evaluator.score(at(evaluator, 0.5))
    assert not score.failed
    assert score.slopes is None or all(math.isnan(slope) for slope in score.slopes)


def test_batch_statistics_change_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    model[1].running_mean.fill_(3.0)
    frozen = nn.BatchNorm2d(4, track_running_stats=False).eval()
    model.append(frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    inputs = torch.randn(8, 1, 6, 6)
    with batch_statistics(model):
        outputs = model[1](model[0](inputs)).detach()
        assert outputs.mean((0, 2, 3)).numpy() == pytest.approx(np.zeros(4), abs=1e-5)
        assert torch.equal(model(inputs), model(inputs))  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert model[1].track_running_stats
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(KeyError), batch_statistics(model):
        raise KeyError
    assert not model[1].training


def test_a_last_batch_of_one_image_is_no_trouble() -> None:
    """Batch norm cannot have statistics of one row; 200 images in batches of 199."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10)
    ).eval()
    for batch in (199, 1):
        evaluator = slope_evaluator(model, batch_size_eval=batch, nb_smpls_slope=200)
        score = evaluator.score(at(evaluator, 0.5))
        assert not score.failed
        assert score.slopes is not None
        assert np.isfinite(score.slopes).all()
        own = evaluator.own_divergences()
        assert own is not None
        assert np.isfinite(own[1]).all()
