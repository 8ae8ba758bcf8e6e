"""Python blocks of the README and the pages, and what the pages take for granted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.digits import digits_splits
from ws_learner import top_k_accuracy

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )


def run_block(code: str, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Run a block in a folder of its own; what it left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = dict(given)
        exec(compile(code, "block", "exec"), names)
    return names


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3, stride=2), nn.Linear(36, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).relu().flatten(1))


def given_names() -> dict[str, Any]:
    """What the blocks of the pages take for granted."""
    torch.manual_seed(0)
    model = Net()
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "data": digits_splits(),
        "loss": nn.functional.cross_entropy,
        "metric": top_k_accuracy,
    }
