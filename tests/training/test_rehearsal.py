"""A training step on a copy: what would fail after a search fails before it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.rollout_parts import accuracy, tiny_data, tiny_network
from ws_learner import Recipe, UserError
from ws_learner.core import choose_device
from ws_learner.report import MetricsLog
from ws_learner.training import TrainingPhase, rehearse


def phase(folder: Path, loss: Any = functional.cross_entropy, **recipe: Any) -> TrainingPhase:
    return TrainingPhase(
        phase="sparse",
        data=tiny_data(),
        criterion=lambda outputs, targets, inputs: loss(outputs, targets),
        metric=accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=32, **recipe),
        compute=choose_device("fp32", "cpu"),
        seed=0,
        log=MetricsLog(folder / "metrics.csv"),
        checkpoint=folder / "sparse.pt",
    )


def test_a_step_that_works_leaves_no_trace(tmp_path: Path) -> None:
    seen: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(targets))
        return functional.cross_entropy(outputs, targets)

    network = tiny_network()  # has dropout
    state = torch.get_rng_state()
    rehearse(phase(tmp_path, loss), network)
    assert seen[0] == 8
    assert set(seen[1:]) <= {8, 32}  # the same examples again, timed
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())


def test_a_network_without_anything_to_train_needs_no_step(tmp_path: Path) -> None:
    rehearse(phase(tmp_path), tiny_network().requires_grad_(False))


class NeedsTargets(nn.Module):
    """Takes the targets, too, in training."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_network()

    def forward(self, images: Tensor, targets: Any = None) -> Any:
        if self.training:
            raise TypeError("forward() needs targets in training")
        return self.network(images)


class InPlace(nn.Module):
    """Writes into what the backward pass needs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_network()

    def forward(self, images: Tensor) -> Any:
        outputs = self.network(images).exp()
        outputs += 1
        return outputs.sqrt().mul_(2)


@pytest.mark.parametrize(
    ("network", "reason"), [(NeedsTargets, "TypeError"), (InPlace, "RuntimeError")]
)
def test_a_network_that_fails_in_training_only_is_refused(
    network: type[nn.Module], reason: str, tmp_path: Path
) -> None:
    told = rf"the sparse training cannot begin: a step on 8 examples fails, {reason}: "
    with pytest.raises(UserError, match=told):
        rehearse(phase(tmp_path), network())


def test_momentum_of_nesterov_is_needed() -> None:
    with pytest.raises(UserError, match="`nesterov` True: needs a `momentum` above 0"):
        Recipe(nb_epochs=1, nesterov=True, momentum=0.0)
