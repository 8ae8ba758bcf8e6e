"""Sparse training with a pattern for each layer: exact, resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.digits import digits_splits
from tests.support.digits_experiment import network
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import ComputeDevice, UserError
from ws_learner.pruning import build_pattern_plan, count_zeros
from ws_learner.report import MetricsLog
from ws_learner.training import Trainer, TrainingPhase, top_k_accuracy, train_sparse

KINDS = ("unstructured", "4x1", "2x4")


def seeded(width: int) -> nn.Module:
    torch.manual_seed(0)
    return network(width)


def plan_of(net: nn.Module) -> tuple[dict[str, str], dict[str, int]]:
    """A pattern for each of the three weights, and about 0.6 of it as zeros."""
    names = [n for n, w in net.named_parameters() if w.dim() > 1]
    patterns = dict(zip(names, KINDS, strict=True))
    plan = build_pattern_plan(net, names, pattern=patterns)
    zeros = {}
    for name, pattern in plan.patterns.items():
        shape = plan.shapes[name]
        zeros[name] = pattern.feasible(shape, round(0.6 * net.get_parameter(name).numel()))
    return patterns, zeros


def trained(folder: Path, net: nn.Module, **options: Any) -> nn.Module:
    patterns, zeros = plan_of(net)
    phase = TrainingPhase(
        phase="sparse",
        data=digits_splits(),
        criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
        metric=top_k_accuracy,
        recipe=Recipe(nb_epochs=2, batch_size=50, lrn_rate=0.01),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
        seed=7,
        log=MetricsLog(folder / "metrics.csv"),
        checkpoint=folder / "sparse.pt",
    )
    settings = {"config": WeightSparseConfig(), "patterns": patterns} | options
    return train_sparse(net, zeros, phase, **settings)[0]


def test_a_run_that_was_stopped_goes_on_to_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = trained(tmp_path / "whole", seeded(4))
    original = Trainer._run_step

    def stopped(trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
        if trainer.step == 30:
            raise KeyboardInterrupt
        return original(trainer, inputs, targets)

    monkeypatch.setattr(Trainer, "_run_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, seeded(4))
    monkeypatch.setattr(Trainer, "_run_step", original)
    resumed = trained(tmp_path, seeded(4))
    zeros = plan_of(seeded(4))[1]
    for (name, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name
        if name in zeros:
            assert count_zeros(one) == zeros[name]


def test_a_frozen_layer_is_pruned_in_its_own_pattern(tmp_path: Path) -> None:
    net = seeded(4)
    patterns, zeros = plan_of(net)
    name = next(name for name, pattern in patterns.items() if pattern == "4x1")
    net.get_parameter(name).requires_grad_(False)
    weight = trained(tmp_path, net).get_parameter(name)
    rows = weight.movedim(1, -1).reshape(len(weight) // 4, 4, -1) == 0
    assert torch.equal(rows.all(1), rows.any(1))
    assert count_zeros(weight) == zeros[name]


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`ws_scope` global: layers with patterns of their own"):
        trained(tmp_path, seeded(4), config=WeightSparseConfig(ws_scope="global"))
    config = WeightSparseConfig(ws_method="srste", ws_pattern="2:4")
    with pytest.raises(UserError, match="this method trains N:M patterns"):
        trained(tmp_path, seeded(4), config=config)
    with pytest.raises(UserError, match="none is given for"):
        trained(tmp_path, seeded(4), patterns={})
