"""The steps of recovery: loss, learning rate, order of the windows, saved state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.core import UserError, load_state_file, save_state_file, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.trained_weights import TrainedWeights

__all__ = ["Recovery", "train_steps"]

_WARM_UP = 0.05  # share of the time in which the rate rises
_CLIP = 1.0  # largest norm of a gradient
_BETWEEN_SAVES = 60.0  # seconds, at least
_SAVE_SHARE = 20.0  # saving takes at most one part in so many


@dataclass(kw_only=True)
class Recovery:
    """What is trained, on what, and for how long.

    Attributes:
        network: The folder's network, dense; the student and, for `distill`, the teacher.
        layers: Linear layers of the blocks, whose weights train; all else stays.
        windows: (N, T) token numbers; a step takes one window.
        settings: Minutes, objective, rank and rate.
        folder: For the state and the result.
        teacher: Folder of the teacher's network, if it is another.
        seed: Of the order of windows and of LoRA's first values.
        clock: Seconds from any start.
        watch: Called with the seconds spent after each step; for measurements.
    """

    network: BlockNetwork
    layers: tuple[BlockLayer, ...]
    windows: Tensor
    settings: LanguageSettings
    folder: Path
    teacher: Path | None = None
    seed: int = 0
    clock: Callable[[], float] = time.monotonic
    watch: Callable[[float], None] = lambda seconds: None
    step: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)


def train_steps(plan: Recovery, student: Any, teacher: Any, weights: TrainedWeights) -> None:
    """Take steps until the minutes are used up, from where an interrupted call was.

    Args:
        plan: What is trained; its `step` and `spent` are counted up.
        student: The pruned network, whole.
        teacher: The dense one; None trains for the next token.
        weights: What trains.

    Raises:
        UserError: The loss is not finite, the disk is full, or the state is damaged.
    """
    parameters = list(weights.parameters.values())
    optimizer = torch.optim.Adam(parameters, lr=plan.settings.learning_rate)
    _resume(plan, weights, optimizer)
    budget = plan.settings.recover_minutes * 60
    began = plan.clock() - plan.spent
    saved, needed = plan.spent, 0.0
    with track("recovering", total=budget, done=min(plan.spent, budget)) as progress:
        while plan.spent < budget:
            for group in optimizer.param_groups:
                group["lr"] = plan.settings.learning_rate * _rate(plan.spent / budget)
            loss = _loss(student, teacher, _window(plan))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            reached = loss.item()
            _refuse_infinite(reached)
            plan.step, before, plan.spent = plan.step + 1, plan.spent, plan.clock() - began
            note = f"step {plan.step}, loss {reached:.3f}"
            progress.advance(min(plan.spent, budget) - min(before, budget), note=note)
            plan.watch(plan.spent)
            if plan.spent - saved > max(_BETWEEN_SAVES, _SAVE_SHARE * needed):
                _save(plan, weights, optimizer)
                saved, needed = plan.clock() - began, plan.clock() - began - plan.spent


def _rate(done: float) -> float:
    """Share of the highest rate once a share of the time has passed."""
    return min(1.0, (done + 0.01) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _window(plan: Recovery) -> Tensor:
    """(1, T) tokens of a step: each pass over the windows has an order of its own."""
    turn, place = divmod(plan.step, len(plan.windows))
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + turn)
    order = torch.randperm(len(plan.windows), generator=generator)
    return plan.windows[order[place]][None]


def _loss(student: Any, teacher: Any, window: Tensor) -> Tensor:
    """Nats per token: KL divergence from the teacher's predictions, or of the next token."""
    logits = student(input_ids=window, use_cache=False).logits[0]
    if teacher is None:
        return functional.cross_entropy(logits[:-1], window[0, 1:])
    with torch.no_grad():
        wanted = torch.log_softmax(teacher(input_ids=window, use_cache=False).logits[0], dim=-1)
    found = torch.log_softmax(logits, dim=-1)
    return functional.kl_div(found, wanted, log_target=True, reduction="batchmean")


def _refuse_infinite(loss: float) -> None:
    if not math.isfinite(loss):
        raise UserError(f"recovery: the loss became {loss}; give a lower `recover_rate`")


def _save(plan: Recovery, weights: TrainedWeights, optimizer: torch.optim.Optimizer) -> None:
    save_state_file(
        plan.folder / "training.pt",
        {
            "step": plan.step,
            "seconds": plan.spent,
            "values": {name: one.detach() for name, one in weights.parameters.items()},
            "optimizer": optimizer.state_dict(),
        },
    )


def _resume(plan: Recovery, weights: TrainedWeights, optimizer: torch.optim.Optimizer) -> None:
    kept = plan.folder / "training.pt"
    if not kept.exists():
        return
    state = load_state_file(kept)
    plan.step, plan.spent = int(state["step"]), float(state["seconds"])
    weights.load(state["values"])
    optimizer.load_state_dict(state["optimizer"])
