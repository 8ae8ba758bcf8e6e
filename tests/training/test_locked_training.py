"""Training with a locked pattern: zeros outside the layer table stay, too."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.support.digits import digits_splits
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import ComputeDevice
from ws_learner.report import MetricsLog
from ws_learner.training import TrainingPhase, top_k_accuracy, train_sparse


class Net(nn.Module):
    """A weight that no table of layers lists: it is multiplied by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixing = nn.Parameter(torch.randn(64, 64) / 8)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(x.flatten(1) @ self.mixing))
        return result


def test_zeros_of_unlisted_tensors_stay(tmp_path: Path) -> None:
    model = Net()
    for weight in (model.mixing, model.head.weight):
        weight.data[torch.rand_like(weight) < 0.5] = 0
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    phase = TrainingPhase(
        phase="sparse",
        data=digits_splits(),
        criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
        metric=top_k_accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=100, lrn_rate=0.1),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
        seed=0,
        log=MetricsLog(tmp_path / "metrics.csv"),
        checkpoint=tmp_path / "sparse.pt",
    )
    config = WeightSparseConfig(ws_method="pattern_lock", ws_prune_ratio_prtl="given")
    zeros = {"head.weight": int((before["head.weight"] == 0).sum())}
    train_sparse(model, zeros, phase, config=config)
    for name in ("mixing", "head.weight"):
        after = model.get_parameter(name).detach()
        assert torch.equal(after == 0, before[name] == 0), name
        assert not torch.equal(after, before[name])
