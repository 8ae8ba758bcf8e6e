"""Two linear layers, fixed data, and a plain training loop in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from ws_learner.pruning.methods.gradual import GradualConfig

STEPS, BATCH, INPUTS, OUTPUTS = 60, 5, 6, 4
CONFIG = GradualConfig(iter_ratio_beg=0.1, iter_ratio_end=0.5, mask_update_step=4)
BEGIN, END = 6, 30
ZEROS = {"0.weight": 17, "1.weight": 9}
LR, MOMENTUM, DECAY = 0.05, 0.9, 0.02


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    return (
        generator.normal(size=(STEPS, BATCH, INPUTS)),
        generator.normal(size=(STEPS, BATCH, OUTPUTS)),
    )


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(INPUTS, OUTPUTS, bias=False), nn.Linear(OUTPUTS, OUTPUTS, bias=False)
    return nn.Sequential(*layers).double()


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    check: Callable[[], object] = lambda: None,
) -> None:
    xs, ys = data()
    for x, y in zip(xs[steps.start : steps.stop], ys[steps.start : steps.stop], strict=True):
        optimizer.zero_grad()
        (model(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean().backward()
        optimizer.step()
        check()


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=LR, momentum=0.9, weight_decay=DECAY),
    "nesterov": partial(torch.optim.SGD, lr=LR, momentum=0.9, nesterov=True, weight_decay=DECAY),
    "sgd-loop": partial(torch.optim.SGD, lr=LR, momentum=0.9, foreach=False),
    "adam": partial(torch.optim.Adam, lr=LR, weight_decay=DECAY),
    "amsgrad": partial(torch.optim.Adam, lr=LR, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=LR, weight_decay=0.1),
    "adamw-fused": partial(torch.optim.AdamW, lr=LR, weight_decay=0.1, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.9),
    "adagrad": partial(torch.optim.Adagrad, lr=LR, weight_decay=DECAY),
}
