"""Scores of choices: those of networks built by hand, in this process and in others."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.rollout_parts import tiny_data, tiny_evaluator
from ws_learner.core import LayerChoice
from ws_learner.pruning.layers.prunable import parameter_of
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.search.rollout.choice_evaluator import ChoiceEvaluator
from ws_learner.search.rollout.local_pool import LocalPool

PATTERNS = ("unstructured", "4x1", "4x4")


@cache
def evaluator(**changes: Any) -> ChoiceEvaluator:
    rollouts = tiny_evaluator(score_power=0.75, **changes)
    return ChoiceEvaluator(rollouts, patterns=PATTERNS, dtypes=("fp32", "int8"))


def mixed(of: ChoiceEvaluator) -> tuple[LayerChoice, ...]:
    """Another pattern and format in each layer."""
    wanted = [("4x1", "fp32"), ("unstructured", "int8"), ("4x4", "int8"), ("4x1", "int8")]
    found = []
    for choices, kind in zip(of.database.choices, wanted, strict=True):
        own = [c for c in choices if (c.pattern, c.dtype) == kind and c.zeros]
        found.append(own[len(own) // 2])
    return tuple(found)


def test_the_score_is_that_of_a_network_built_by_hand() -> None:
    ours = evaluator(nb_iters_feval=0)
    choices = mixed(ours)
    network = copy.deepcopy(ours.dense)
    with torch.no_grad():
        for layer, (row, choice) in enumerate(zip(ours.layers, choices, strict=True)):
            parameter_of(network, row.name).copy_(ours.database.weight(layer, choice))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        for inputs in ours.rollouts.calibration_inputs:
            network(inputs)
    network.eval()
    ((images, targets),) = tiny_data().search.batches(100)
    with torch.no_grad():
        pruned, dense = network(images).double(), ours.dense(images).double()
    theirs, own = dense.log_softmax(1), pruned.log_softmax(1)
    found = ours.score(choices)
    assert found.failed == ""
    assert found.accuracy == pytest.approx(float((pruned.argmax(1) == targets).double().mean()))
    divergence = float((theirs.exp() * (theirs - own)).sum(1).mean())
    assert found.divergence == pytest.approx(divergence, rel=1e-3)
    assert found.reward == pytest.approx(np.exp(-found.divergence))
    assert found.slopes is None


def test_unstructured_fp32_scores_as_the_counts_do() -> None:
    """With the score's power 1, at which a rollout prunes what it is given."""
    rollouts = tiny_evaluator(score_power=1.0)
    ours = ChoiceEvaluator(rollouts, patterns=("unstructured",))
    choices = tuple(own[1] for own in ours.database.choices)
    zeros = np.array([choice.zeros for choice in choices])
    theirs = rollouts.score(zeros)
    assert ours.score(choices) == theirs
    select = tiny_data().select
    assert ours.on(select).score(choices) == rollouts.on(select).score(zeros)
    assert ours.score(choices) == theirs  # the copy left the first as it is


@pytest.mark.parametrize("settings", [{"nb_iters_ft": 3}, {"rg_solver": "adam", "nb_iters_rg": 2}])
def test_int8_weights_are_on_their_grid_after_repair_and_fine_tuning(
    settings: dict[str, Any],
) -> None:
    ours = evaluator(**settings)
    choices = mixed(ours)
    network = ours.network(choices)
    for row, choice in zip(ours.layers, choices, strict=True):
        weight = parameter_of(network, row.name).detach()
        assert count_zeros(weight) >= choice.zeros
        rows = weight.flatten(1).double()
        steps = rows / rows.abs().amax(1, keepdim=True).clamp(min=1e-30) * 127
        whole = bool(((steps - steps.round()).abs() < 1e-3).all())
        assert whole == (choice.dtype == "int8"), row.name
    assert ours.score(choices).failed == ""


def test_the_dense_choices_score_as_the_dense_network() -> None:
    ours = evaluator()
    dense = ours.score([own[0] for own in ours.database.choices])
    assert dense.divergence == pytest.approx(
        ours.rollouts.score(np.zeros(4, dtype=np.int64)).divergence
    )


@pytest.mark.long
def test_processes_give_the_same_scores(tmp_path: Path) -> None:
    ours = ChoiceEvaluator(tiny_evaluator(tmp_path), patterns=PATTERNS, dtypes=("fp32", "int8"))
    candidates = [mixed(ours), tuple(own[0] for own in ours.database.choices)]
    with LocalPool(ours, 1) as pool:
        scores = pool.evaluate(candidates)
    with LocalPool(ours, 0) as pool:
        assert pool.evaluate(candidates) == scores
    other = pickle.loads(pickle.dumps(ours.database))
    assert other.choices == ours.database.choices


def test_candidates_that_do_not_fit_are_refused() -> None:
    ours = evaluator()
    with pytest.raises(ValueError, match="must be 4 choices, one per layer"):
        ours.score(mixed(ours)[:3])
    with pytest.raises(ValueError, match="must be 4 choices"):
        ours.checked(np.zeros(4, dtype=np.int64))
    wrong = (LayerChoice(pattern="4x4", zeros=5), *mixed(ours)[1:])
    with pytest.raises(ValueError, match=r"whole units of 4x4 cannot make 5 zeros"):
        ours.network(wrong)
