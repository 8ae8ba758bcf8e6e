"""Sparse training: what is logged is counted, and gradients are masked before they are clipped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.digits import digits_splits
from tests.support.digits_experiment import network
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import ComputeDevice
from ws_learner.pruning import count_zeros
from ws_learner.report import MetricsLog
from ws_learner.training import Callback, Trainer, TrainingPhase, top_k_accuracy, train_sparse

PLAIN = ComputeDevice(device="cpu", bf16=False, channels_last=False)
LR = 0.01


def criterion(outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def sparse(
    folder: Path, net: nn.Module, recipe: Mapping[str, Any], config: WeightSparseConfig
) -> nn.Module:
    phase = TrainingPhase(
        phase="sparse",
        data=digits_splits(),
        criterion=criterion,
        metric=top_k_accuracy,
        recipe=Recipe(nb_epochs=2, batch_size=50, lrn_rate=LR, **recipe),
        compute=PLAIN,
        seed=7,
        log=MetricsLog(folder / "metrics.csv"),
        checkpoint=folder / "sparse.pt",
    )
    zeros = {
        name: w.numel() // 2
        for name, w in net.named_parameters()
        if w.dim() > 1 and w.shape[1] % 4 == 0  # 2:4 fits
    }
    return train_sparse(net, zeros, phase, config=config)[0]


def test_the_log_holds_the_planned_and_the_counted_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 steps, ramp from 4 to 20, an update each step by default: ten are too few to skip."""
    counted: dict[int, float] = {}
    original = Trainer._run_step

    def run_step(trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
        loss = original(trainer, inputs, targets)
        weights = [w for w in trainer.model.parameters() if w.dim() > 1 and w.shape[1] % 4 == 0]
        counted[trainer.step] = sum(map(count_zeros, weights)) / sum(w.numel() for w in weights)
        return loss

    monkeypatch.setattr(Trainer, "_run_step", run_step)
    sparse(tmp_path, network(4), {}, WeightSparseConfig(ws_mask_update_step=7))
    rows = MetricsLog(tmp_path / "metrics.csv").frame().dropna(subset=["prune/ratio"])
    assert rows["prune/ratio"].tolist() == pytest.approx([counted[step] for step in rows["step"]])
    inside = rows[(rows["step"] > 4) & (rows["step"] < 11)]
    assert (inside["prune/ratio"] == 0).all()  # before the first update above 0, at step 11
    assert (inside["prune/planned"] > 0.05).all()


def test_a_short_ramp_has_about_ten_updates(tmp_path: Path) -> None:
    """Half of all weights go in ten steps; with the former interval of 25 they went at once."""
    sparse(tmp_path, network(4), {}, WeightSparseConfig())
    log = MetricsLog(tmp_path / "metrics.csv").frame()
    assert log["prune/ratio"].dropna().diff().max() < 0.2


class Moves(Callback):
    """Length of every step's change of the weights."""

    def __init__(self) -> None:
        self.lengths: list[float] = []

    def on_start(self, trainer: Trainer) -> None:
        self.before = [w.detach().clone() for w in trainer.model.parameters()]

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        now = [w.detach().clone() for w in trainer.model.parameters()]
        change = torch.cat([(a - b).flatten() for a, b in zip(now, self.before, strict=True)])
        self.lengths.append(float(change.norm()))
        self.before = now


def test_the_norm_that_is_clipped_is_the_norm_that_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain SGD moves the weights by exactly rate x clip_norm while the gradient is larger."""
    moves = Moves()
    original = TrainingPhase.run

    def run(phase: TrainingPhase, model: nn.Module, **options: Any) -> float:
        options["before"] = [*options["before"], moves]
        return original(phase, model, **options)

    monkeypatch.setattr(TrainingPhase, "run", run)
    plain = {"momentum": 0.0, "weight_decay": 0.0, "lrn_schedule": "step", "clip_norm": 1e-3}
    config = WeightSparseConfig(ws_iter_ratio_beg=0.0, ws_iter_ratio_end=0.1)
    sparse(tmp_path, network(4), plain, config)
    after_the_ramp = moves.lengths[5:]
    assert len(after_the_ramp) == 35
    assert after_the_ramp == pytest.approx([LR * 1e-3] * 35, rel=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {"ws_criterion": "snip_momentum"},
        {"ws_method": "group_lasso"},
        {"ws_method": "movement", "movement_steps": "relative"},
        {"ws_method": "movement"},
        {"ws_method": "srste", "ws_pattern": "2:4"},
        {"ws_method": "sdgf", "ws_pattern": "2:4"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_clipping_that_clips_nothing_changes_nothing(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Criteria see the gradients of pruned weights, and penalties are added once."""
    start = network(4)
    config = WeightSparseConfig(**settings)
    (tmp_path / "clipped").mkdir()
    never = sparse(tmp_path, copy.deepcopy(start), {}, config)
    clipped = sparse(tmp_path / "clipped", copy.deepcopy(start), {"clip_norm": 1e9}, config)
    for (name, one), other in zip(never.named_parameters(), clipped.parameters(), strict=True):
        assert torch.equal(one, other), name
