"""Networks and data of other floating types than float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row, pruned
from ws_learner import split_dataset, top_k_accuracy
from ws_learner.core import load_state

_UNIFORM = {"ws_prune_ratio_prtl": "uniform"}


def _run(folder: Path, *, net: torch.dtype, data: torch.dtype, **config: Any) -> None:
    torch.manual_seed(0)
    images = torch.randn(160, 3, 6, 6)
    labels = (images.mean((1, 2, 3)) > 0).long()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    ).to(net)
    splits = split_dataset(TensorDataset(images.to(data), labels), num_classes=2)
    task: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}
    result = pruned(model, splits, folder, config=config, **task)
    assert result.summary["failed_rollouts"] == 0
    state = load_state(folder / "run" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype
    zeros = sum(int((state[name] == 0).sum()) for name in result.ratios["layer"])
    assert zeros == round((result.ratios["weights"] * result.ratios["achieved"]).sum())


class _Fixed(nn.Module):
    """Turns its inputs into bfloat16, whatever its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8).bfloat16(), nn.Linear(8, 2).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.body(x.bfloat16())))
        return found


def _fixed(folder: Path) -> None:
    x = torch.randn(160, 4)
    data = split_dataset(TensorDataset(x, (x.sum(1) > 0).long()), num_classes=2)
    pruned(_Fixed(), data, folder, loss=functional.cross_entropy, metric=top_k_accuracy)


ROWS = (
    Row(
        area="network",
        what="bfloat16 weights and data; search",
        run=lambda folder: _run(folder, net=torch.bfloat16, data=torch.bfloat16),
    ),
    Row(
        area="network",
        what="float16 weights, float32 data",
        run=lambda folder: _run(folder, net=torch.float16, data=torch.float32, **_UNIFORM),
    ),
    Row(
        area="network",
        what="float64 weights, float32 data; search, distillation",
        run=lambda folder: _run(folder, net=torch.float64, data=torch.float32, enbl_dst=True),
    ),
    Row(
        area="network",
        what="bfloat16 weights, and a `forward` with this type in it",
        run=_fixed,
        refused="in which search and training run: let its `forward` use the type of its weights",
    ),
    Row(
        area="data",
        what="float64 data for a float32 network",
        run=lambda folder: _run(folder, net=torch.float32, data=torch.float64, **_UNIFORM),
    ),
    Row(
        area="data",
        what="float16 data for a float32 network",
        run=lambda folder: _run(folder, net=torch.float32, data=torch.float16, **_UNIFORM),
    ),
)
