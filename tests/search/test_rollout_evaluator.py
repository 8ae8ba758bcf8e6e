"""Scores: what they depend on, what they measure, and what a failing candidate gets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from envs.problem import IntArray
from tests.support.rollout_parts import accuracy, counts, tiny_data, tiny_evaluator
from ws_learner.core.device import choose_device
from ws_learner.pruning.layers.table import layer_table, parameter_of
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.search.rollout.calibration import draw_inputs
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.scoring import as_scored


@pytest.fixture(scope="module")
def evaluator() -> RolloutEvaluator:
    return tiny_evaluator()


def test_a_score_does_not_depend_on_earlier_ones(evaluator: RolloutEvaluator) -> None:
    profiles = [counts(evaluator.layers, ratio) for ratio in (0.3, 0.6, 0.9)]
    forward = [evaluator.score(zeros) for zeros in profiles]
    assert [evaluator.score(zeros) for zeros in reversed(profiles)] == forward[::-1]
    assert [tiny_evaluator().score(zeros) for zeros in profiles[1:]] == forward[1:]
    assert len({score.reward for score in forward}) == 3


def test_threads_and_their_number_are_left_as_they_were(evaluator: RolloutEvaluator) -> None:
    zeros = counts(evaluator.layers, 0.7)
    alone = evaluator.score(zeros)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert evaluator.score(zeros) == alone
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("solver", ["closed-form", "adam", "none"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.95, 1.0])
def test_the_network_has_exactly_the_zeros_asked_for(solver: str, ratio: float) -> None:
    evaluator = tiny_evaluator(rg_solver=solver, nb_iters_rg=2)
    zeros = counts(evaluator.layers, ratio)
    network = evaluator.network(zeros)
    for row, wanted in zip(evaluator.layers, zeros, strict=True):
        weight = parameter_of(network, row.name)
        assert count_zeros(weight) == wanted
        kept = weight != 0
        dense = parameter_of(evaluator.dense, row.name).abs()
        if 0 < wanted < row.weights:
            assert dense[kept].min() >= dense[~kept].max()
    assert not evaluator.score(zeros).failed
    assert type(network) is type(evaluator.dense)


def test_score_is_the_networks_accuracy_and_divergence(evaluator: RolloutEvaluator) -> None:
    zeros = counts(evaluator.layers, 0.6)
    whole = tiny_evaluator(score_power=1.0).on(tiny_data().search)
    score, network = whole.score(zeros), whole.network(zeros)
    inputs, targets = next(iter(tiny_data().search.batches(100)))
    with torch.no_grad():
        ours = network(inputs).double().log_softmax(1).numpy()
        dense = evaluator.dense(inputs).double().log_softmax(1).numpy()
    assert score.accuracy == pytest.approx(np.mean(ours.argmax(1) == targets.numpy()))
    divergence = np.mean(np.sum(np.exp(dense) * (dense - ours), axis=1))
    assert score.divergence == pytest.approx(divergence, rel=1e-4)
    assert score.reward == pytest.approx(math.exp(-divergence), rel=1e-4)


def test_a_candidate_is_scored_at_a_milder_point_of_the_same_shape(
    evaluator: RolloutEvaluator,
) -> None:
    sizes = np.array([row.weights for row in evaluator.layers])
    zeros = counts(evaluator.layers, 0.9)
    milder = as_scored(zeros, sizes, power=0.75)
    density = 1 - zeros.sum() / sizes.sum()
    assert sizes.sum() - milder.sum() == round(density**0.75 * sizes.sum())
    as_it_is = tiny_evaluator(score_power=1.0)
    score, plain = evaluator.score(zeros), as_it_is.score(milder)
    assert (score.reward, score.accuracy) == (plain.reward, plain.accuracy)
    assert score.reward > as_it_is.score(zeros).reward


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.0))
def test_the_milder_point_keeps_the_proportions_of_what_is_kept(seed: int, power: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1000, 50_000, 6)
    zeros = (sizes * rng.uniform(0.9, 0.98, 6)).astype(np.int64)
    milder = as_scored(zeros, sizes, power=power)
    assert ((milder >= 0) & (milder <= sizes)).all()
    factors = (sizes - milder) / (sizes - zeros)
    open_ = milder > 0
    assert np.ptp(factors[open_]) < 0.06  # whole weights apart, one factor
    assert (factors >= 1 - 1e-9).all()
    dense = np.zeros_like(sizes)
    assert as_scored(dense, sizes, power=power).tolist() == dense.tolist()
    assert as_scored(sizes, sizes, power=power).tolist() == sizes.tolist()
    assert as_scored(zeros, sizes, power=1.0).tolist() == zeros.tolist()


def test_the_dense_network_does_not_diverge_from_itself() -> None:
    evaluator = tiny_evaluator(nb_iters_ft=0, nb_smpls_bn=0)
    score = evaluator.score(counts(evaluator.layers, 0.0))
    assert score.divergence == 0
    assert score.reward == 1
    assert score.accuracy == score.accuracy_before


def test_before_is_what_the_score_is_without_fine_tuning() -> None:
    tuned = tiny_evaluator(nb_iters_ft=5, lrn_rate_ft=1e-2, score_power=1.0)
    untuned = tiny_evaluator(nb_iters_ft=0, score_power=1.0)
    zeros = counts(tuned.layers, 0.8)
    assert tuned.score(zeros).accuracy_before == untuned.score(zeros).accuracy
    assert tuned.score(zeros).reward > untuned.score(zeros).reward


def test_rewards_of_the_other_signal_and_type() -> None:
    single = tiny_evaluator(reward_signal="accuracy")
    multi = tiny_evaluator(reward_signal="accuracy", reward_type="multi-obj")
    zeros = counts(single.layers, 0.7)
    score = single.score(zeros)
    assert score.reward == score.accuracy
    overall = zeros.sum() / sum(row.weights for row in single.layers)
    assert multi.score(zeros).reward == pytest.approx(score.accuracy * math.log(1 + overall))


def test_the_callers_model_and_its_mode_are_untouched() -> None:
    evaluator = tiny_evaluator()
    before = {name: value.clone() for name, value in evaluator.dense.state_dict().items()}
    evaluator.score(counts(evaluator.layers, 0.9))
    after = evaluator.dense.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class Fragile(nn.Linear):
    """Breaks when at least half of its weights are gone."""

    nan = False

    def forward(self, x: Tensor) -> Tensor:
        if count_zeros(self.weight) * 2 >= self.weight.numel():
            if not self.nan:
                raise ZeroDivisionError("too thin")
            return super().forward(x) * torch.nan
        return super().forward(x)


@pytest.mark.parametrize(("nan", "word"), [(False, "too thin"), (True, "not finite")])
def test_a_failing_candidate_gets_the_worst_score_and_a_reason(nan: bool, word: str) -> None:
    data = tiny_data()
    model = nn.Sequential(nn.Flatten(), Fragile(192, 4))
    model[1].nan = nan
    good = tiny_evaluator()
    layers = layer_table(model, torch.zeros(2, 3, 8, 8))
    evaluator = RolloutEvaluator(
        model,
        data,
        layers=layers,
        loss=good.loss,
        metric=accuracy,
        config=good.config,
        seed=0,
        cache_dir=None,
        device="cpu",
    )
    bad = evaluator.score(np.array([700], dtype=np.int64))
    assert word in bad.failed
    assert bad.reward == 0
    fine = evaluator.score(np.array([50], dtype=np.int64))
    assert fine.failed == ""
    assert fine.reward > bad.reward


@pytest.mark.parametrize(
    ("zeros", "word"),
    [
        (np.array([1, 2], dtype=np.int64), "one per layer"),
        (np.array([0.5, 0.5, 0.5, 0.5]), "whole numbers"),
        (np.array([0, 0, 97, 0], dtype=np.int64), "6.weight: 97 zeros"),
        (np.array([-1, 0, 0, 0], dtype=np.int64), "0.weight: -1 zeros"),
    ],
)
def test_a_candidate_that_does_not_fit_is_an_error(
    evaluator: RolloutEvaluator, zeros: IntArray, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        evaluator.score(zeros)


def test_the_cached_database_gives_the_same_scores(tmp_path: Path) -> None:
    built, read = tiny_evaluator(tmp_path), tiny_evaluator(tmp_path)
    zeros = counts(built.layers, 0.9)
    assert built.score(zeros) == read.score(zeros)
    assert np.array_equal(built.curves()[1], read.curves()[1])


def test_batches_beyond_the_memory_limit_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = counts(tiny_evaluator().layers, 0.8)
    one_batch = 32 * 3 * 8 * 8 * 4
    monkeypatch.setattr("ws_learner.search.rollout.calibration._HELD_BYTES", one_batch)
    again = tiny_evaluator(nb_iters_ft=3, nb_smpls_bn=0, nb_smpls_rg=32)
    monkeypatch.undo()
    fresh = tiny_evaluator(nb_iters_ft=3, nb_smpls_bn=0, nb_smpls_rg=32)
    assert again.score(zeros).accuracy_before == fresh.score(zeros).accuracy_before
    assert again.score(zeros) != fresh.score(zeros)


@pytest.mark.parametrize(("images", "sizes"), [(0, []), (50, [25, 25]), (70, [24, 24, 22])])
def test_inputs_come_in_batches_of_about_equal_size(images: int, sizes: list[int]) -> None:
    drawn = draw_inputs(
        tiny_data().train, images, size=32, seed=3, compute=choose_device("fp32", "cpu")
    )
    assert [len(part) for part in drawn] == sizes
    if images:
        assert len(torch.cat(drawn).flatten(1).unique(dim=0)) == images


def test_a_split_smaller_than_the_images_asked_for_is_read_again() -> None:
    drawn = draw_inputs(
        tiny_data().test, 100, size=64, seed=3, compute=choose_device("fp32", "cpu")
    )
    every = torch.cat(drawn).flatten(1)
    assert len(every) == 100
    assert len(every.unique(dim=0)) == 40
