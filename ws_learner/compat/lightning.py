"""Prune in Lightning's `Trainer`: a callback. Needs the package lightning or pytorch_lightning.

Parameters are named as the LightningModule names them.

Example:
    from ws_learner.compat.lightning import SparsifierCallback

    Trainer(..., callbacks=[SparsifierCallback(GradualConfig(), ratios={"net.fc.weight": 0.9})])
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ws_learner.compat.loops.plan import PruningPlan, Zeros
from ws_learner.compat.loops.pruning import LoopPruning
from ws_learner.core import UserError, say
from ws_learner.pruning import MethodConfig, Sparsifier, count_zeros

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    _NAMES = ("lightning.pytorch", "pytorch_lightning")

    def _package() -> Any:
        """That which is in use, else the first that is installed."""
        for name in sorted(_NAMES, key=lambda name: name not in sys.modules):
            try:
                return importlib.import_module(name)
            except ImportError as error:
                first = error
        raise ImportError(
            "ws_learner.compat.lightning needs lightning: pip install -e '.[trainers]'"
        ) from first

    Callback = _package().Callback

__all__ = ["SparsifierCallback"]


class SparsifierCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Prunes the network that a `Trainer` fits, to an exact number of zeros.

    The pruning's state is part of each checkpoint, and `fit(..., ckpt_path=...)` continues it.
    `ModelCheckpoint` and `EarlyStopping` start counting when the schedule has ended, so that the
    best model is as sparse as asked for. A training that ends before raises a `UserError`.
    Weights are masked once more after all callbacks' `on_train_end`, averaged ones too.
    """

    def __init__(
        self,
        method_config: MethodConfig,
        *,
        zeros: Zeros | None = None,
        ratios: Mapping[str, float] | None = None,
        layers: Iterable[str] | None = None,
        total_steps: int | None = None,
        name: str = "sparsifier",
    ) -> None:
        """Plan the pruning; the network is looked at when the fit begins.

        Args:
            method_config: See `Sparsifier`.
            zeros: See `Sparsifier`; or a function of the module, such as `found_zeros`.
            ratios: See `Sparsifier`.
            layers: See `Sparsifier`.
            total_steps: Steps of the optimizer over which to prune; None: those of the fit, which
                Lightning does not know under manual optimization.
            name: In a checkpoint; two callbacks in one `Trainer` need two names.

        Raises:
            UserError: An argument is wrong.
        """
        self._plan = PruningPlan(
            method_config=method_config,
            zeros=zeros,
            ratios=ratios,
            layers=layers,
            total_steps=total_steps,
        )
        self._loop, self._name = LoopPruning(self._plan), name
        self._saved: dict[str, Any] | None = None
        self._resumes = self._compared = self._begun = False

    @property
    def sparsifier(self) -> Sparsifier | None:
        """That of the fit that runs or ran last; None before."""
        return self._loop.sparsifier

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the state."""
        return f"{type(self).__qualname__}-{self._name}"

    def state_dict(self) -> dict[str, Any]:
        """The pruning's state."""
        return self._loop.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until the fit begins."""
        self._saved = state_dict

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note that a checkpoint of a training is resumed."""
        self._resumes = checkpoint.get("global_step", 0) > 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the optimizer; on a resumed fit with the checkpoint's state.

        Not in `on_fit_start`: to ask for the number of steps there would set the data loaders up
        before the checkpoint's loops are restored, and a loader that can resume within an epoch
        would begin it anew.

        Raises:
            UserError: See `LoopPruning.begin`; or no state belongs to the checkpoint.
        """
        sparsifier = self._begin(trainer, pl_module)
        self._compared = sparsifier.finished
        if trainer.early_stopping_callbacks or any(map(_compares, trainer.checkpoint_callbacks)):
            say(
                "ModelCheckpoint and EarlyStopping: compare from the end of the pruning's schedule "
                "on; what is best before does not count"
            )

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> Sparsifier:
        saved, resumes = self._saved, self._resumes or trainer.global_step > 0
        self._saved, self._resumes = None, False
        if resumes and saved is None:
            raise UserError(
                "`ckpt_path`: this fit goes on after the first step, and no state of this callback "
                f"({self.state_key}) comes with it: resume from a checkpoint that was written with "
                "it, or start a new Trainer with the network"
            )
        steps = _steps(trainer, pl_module)
        self._begun = True
        return self._loop.begin(pl_module, trainer.optimizers, steps=steps, saved=saved)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell a method that counts epochs; a resumed fit may leave out on_train_epoch_start."""
        if self._loop.sparsifier is not None and batch_idx == 0:
            self._loop.sparsifier.epoch_begin()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let comparisons begin when the schedule has ended."""
        sparsifier = self._loop.sparsifier
        if sparsifier is None or self._compared:
            return
        self._compared = sparsifier.finished
        for stopping in trainer.early_stopping_callbacks:
            stopping.wait_count = 0
            if self._compared:
                worst = torch.tensor(math.inf)
                stopping.best_score = worst if stopping.mode == "min" else -worst
        for checkpoint in trainer.checkpoint_callbacks if self._compared else ():
            if _compares(checkpoint):
                _forget(checkpoint)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finalize, after other callbacks have put averaged weights into the module.

        Raises:
            UserError: The fit ended before the schedule did.
        """
        if not self._begun:  # the checkpoint is that of a fit that was through
            self._begin(trainer, pl_module)
        self._begun = False
        self._loop.end(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the optimizer alone."""
        self._begun = False
        self._loop.detach()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say if a checkpoint is evaluated that is less sparse than the one trained."""
        if not trainer.training and not trainer.sanity_checking:
            self._mention_dense(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_validation_start`."""
        self._mention_dense(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_validation_start`."""
        self._mention_dense(pl_module)

    def _mention_dense(self, pl_module: LightningModule) -> None:
        sparsifier = self._loop.sparsifier
        if sparsifier is None or sparsifier.attached:
            return
        known = dict(pl_module.named_parameters(remove_duplicate=False))
        masks = {name: mask for name, mask in sparsifier.masks.items() if name in known}
        planned = sum(count_zeros(mask) for mask in masks.values())
        found = sum(count_zeros(known[name]) for name in masks)
        if found < planned:
            say(f"this network has {found} zeros, the pruned one {planned}: it is another one")


def _steps(trainer: Trainer, pl_module: LightningModule) -> float | None:
    """Optimizer steps of the whole fit, if Lightning knows them."""
    if not pl_module.automatic_optimization:
        return None
    return float(trainer.estimated_stepping_batches)  # -1 or infinite: without an end


def _compares(checkpoint: Any) -> bool:
    return getattr(checkpoint, "monitor", None) is not None and hasattr(checkpoint, "best_k_models")


def _forget(checkpoint: Any) -> None:
    """Make a ModelCheckpoint compare from now on; files that it has written stay."""
    worst = torch.tensor(math.inf)
    checkpoint.best_k_models = {}
    checkpoint.kth_best_model_path = checkpoint.best_model_path = ""
    checkpoint.best_model_score = checkpoint.current_score = None
    checkpoint.kth_value = worst if checkpoint.mode == "min" else -worst
