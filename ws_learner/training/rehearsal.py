"""One training step on a copy, before any work: what would fail after the search fails here."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, UserError, map_tensors
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.trainer import Trainer

__all__ = ["rehearse"]

_EXAMPLES = 8
_STEPS = 3  # other programs disturb a single one, and the first touches new memory
_AFFORDABLE = 1.0  # seconds that measured steps may take, about


def rehearse(phase: TrainingPhase, model: nn.Module) -> float | None:
    """Build the optimizer and make one training step, on up to eight training examples.

    Only a copy of the network is trained, and the random generators are left as they are.

    Args:
        phase: The training; nothing of it is written.
        model: The network that it would train; a copy of it if the criterion is tied to it, as
            with distillation of layers. It is changed.

    Returns:
        Seconds that a step on a whole batch takes, about; None if nothing is trained.

    Raises:
        UserError: The step fails; the message has the reason and its place in the code.
    """
    size = min(phase.recipe.batch_size, _EXAMPLES)
    recipe = replace(phase.recipe, batch_size=size)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            trainer = Trainer(
                model=model,
                split=phase.data.train,
                recipe=recipe,
                criterion=phase.criterion,
                compute=phase.compute,
                seed=phase.seed,
                optimizer_of=phase.optimizer_of,
            )
            if not any(value.requires_grad for value in model.parameters()):
                return None
            inputs, targets = next(iter(phase.data.train.batches(size, seed=0, augment=True)))
            trainer.rehearse(inputs, targets)
            return _step_seconds(trainer, inputs, targets, times=phase.recipe.batch_size // size)
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename] or list(frames)
        text = str(error).strip().splitlines() or [""]
        raise UserError(
            f"the {phase.phase} training cannot begin: a step on {size} examples fails, "
            f"{type(error).__name__}: {text[0]} ({own[-1].filename}, line {own[-1].lineno}); "
            "correct the network in training mode, `recipe` or the teacher"
        ) from error


def _step_seconds(trainer: Trainer, inputs: Inputs, targets: Tensor, *, times: int) -> float:
    """Time of a step on `times` as many examples: median of three if it is short, or by proportion.

    No other examples are read, so that data which are drawn at random stay as they are.
    """

    def measured(inputs: Inputs, targets: Tensor) -> float:
        trainer.compute.wait()
        begun = time.monotonic()
        trainer.rehearse(inputs, targets)
        trainer.compute.wait()
        return time.monotonic() - begun

    few = measured(inputs, targets)
    if few * times * _STEPS > _AFFORDABLE:
        return few * times
    try:
        whole = map_tensors(inputs, lambda part: torch.cat([part] * times))
        marks = torch.cat([targets] * times)
        return median(measured(whole, marks) for _ in range(_STEPS))
    except Exception:  # only the estimate depends on it
        return few * times
