"""`Pruning`, LPOT's Python interface: LPOT programs only change the import line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ws_learner.compat.lpot import common
from ws_learner.compat.lpot.distillation import build_lpot_distillation_loss, teacher_outputs
from ws_learner.compat.lpot.epoch_pruner import EpochPruner
from ws_learner.compat.lpot.plan import build_plans
from ws_learner.compat.lpot.reader import read_lpot
from ws_learner.compat.lpot.schema import LpotConf
from ws_learner.compat.lpot.training_function import automatic_training
from ws_learner.core import AnyPath, UserError, say

__all__ = ["Pruning", "common"]


class Pruning:
    """Prunes a model while a training function trains it and calls the hooks.

    The function gets the plain network. `on_epoch_begin(epoch)` is the one hook it must call:
    masks are renewed there, and in `on_batch_begin(step)` if `update_frequency` is a share of an
    epoch. The rest happens at each optimizer step, found by itself as long as `prune()` runs, so
    accumulated gradients are edited once, and a loop may use the hooks of any version.

    Example:
        >>> # prune = Pruning("conf.yaml")
        >>> # prune.model = common.Model(model)
        >>> # prune.train_dataloader = train_dataloader
        >>> # prune.pruning_func = train_func
        >>> # model = prune()

    Attributes:
        model: The network, or a `common.Model` of it; it is trained in place.
        train_dataloader: For a config without data of its own; its length places updates within
            an epoch.
        teacher_model: For distillation: `on_after_compute_loss` adds what the file's
            KnowledgeDistillationLoss says, or that criterion with its defaults.
        eval_dataloader: Kept for the user's functions.
        eval_func: model -> score, measured before and after, if given.
        baseline_score: The score before.
        last_score: The score after.
    """

    def __init__(self, conf: AnyPath | LpotConf) -> None:
        """Read a YAML file, or take settings made in Python.

        Raises:
            UserError: The file cannot be read or is wrong; every mistake with its line.
        """
        self.conf = conf if isinstance(conf, LpotConf) else read_lpot(conf)
        self.train_dataloader: Any = None
        self.teacher_model: nn.Module | common.Model | None = None
        self.eval_dataloader: Any = None
        self.eval_func: Callable[[Any], Any] | None = None
        self.baseline_score: float | None = None
        self.last_score: float | None = None
        self._model: common.Model | None = None
        self._train: Callable[[nn.Module], Any] | None = None
        self._pruner: EpochPruner | None = None

    def __repr__(self) -> str:
        return "Pruning"

    @property
    def model(self) -> common.Model:
        """The network.

        Raises:
            UserError: None was assigned.
        """
        if self._model is None:
            raise UserError("Pruning: assign the network first: prune.model = common.Model(model)")
        return self._model

    @model.setter
    def model(self, model: nn.Module | common.Model) -> None:
        self._model = common.Model(model)

    @property
    def pruning_func(self) -> None:
        """Write-only: model -> anything; trains and calls the hooks."""
        raise AttributeError("pruning_func can be set, but not read")

    @pruning_func.setter
    def pruning_func(self, function: Callable[[nn.Module], Any]) -> None:
        self._train = function

    def __call__(self) -> common.Model:
        """Train, prune and return the network; see `prune`."""
        return self.prune()

    def fit(self) -> common.Model:
        """Train, prune and return the network; see `prune`."""
        return self.prune()

    def prune(self) -> common.Model:
        """Train the network until its targets are reached.

        Returns:
            The very network that was assigned, wrapped, with plain sparse weights.

        Raises:
            UserError: There is no network, no way to train it, a name it lacks, or training ended
                before the last update.
        """
        network = self.model.model
        train, batches = self._training()
        self.baseline_score = self._score(network)
        self._pruner = EpochPruner(network, build_plans(self.conf, network), batches=batches)
        with self._at_each_step():
            train(network)
        self._pruner.finish()
        self.last_score = self._score(network)
        frame, percent = self.model.report_sparsity()
        say(f"pruned: {percent:.2f} % of all weights are zero ({len(frame)} tensors)")
        if self.last_score is not None:
            say(f"score before {self.baseline_score}, after {self.last_score}")
        return self.model

    @property
    def pruner(self) -> EpochPruner:
        """The pruner, available while `prune()` runs and after it.

        Raises:
            UserError: A hook was called before `prune()`.
        """
        if self._pruner is None:
            raise UserError(
                "Pruning: call prune() first; it calls your pruning_func, which calls the hooks"
            )
        return self._pruner

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the first batch of an epoch, counted from 0."""
        self.pruner.epoch_begin(epoch)

    def on_batch_begin(self, step: int) -> None:
        """Before a batch, counted from 0 within the epoch."""
        self.pruner.batch_begin(step)

    def on_before_optimizer_step(self) -> None:
        """After a backward pass, as often as wanted; calling it is optional.

        Importance, group lasso and masks wait for the optimizer's step, when gradients that are
        accumulated over several batches, or scaled, are complete.
        """

    def on_batch_end(self) -> None:
        """After a batch, whether or not the optimizer made a step."""
        self.pruner.mask_weights()

    def on_epoch_end(self) -> None:
        """After the last batch of an epoch."""
        self.pruner.mask_weights()

    def on_after_optimizer_step(self) -> None:
        """After the optimizer's step; calling it is optional."""
        self.pruner.after_step()

    on_step_begin = on_batch_begin
    on_step_end = on_batch_end
    on_post_grad = on_before_optimizer_step

    def on_after_compute_loss(
        self, inputs: Any, student_output: Any, student_loss: Tensor, teacher_output: Any = None
    ) -> Tensor:
        """The loss to minimise: as it is, or with the teacher's part where there is a teacher.

        Args:
            inputs: A tensor, several in a sequence, or keyword arguments, for the teacher.
            student_output: (B, C) logits.
            student_loss: Scalar.
            teacher_output: (B, C) logits; by default those that the teacher gives for `inputs`.

        Raises:
            UserError: The config distils, but there is no teacher; or the logits differ in shape.
        """
        train, teacher = self.conf.train, self.teacher_model
        settings = None if train is None else train.criterion.distillation
        if settings is None and teacher is None and teacher_output is None:
            return student_loss
        if teacher_output is None:
            teacher_output = teacher_outputs(_plain(teacher), inputs)
        return build_lpot_distillation_loss(
            student_output, teacher_output, loss=student_loss, settings=settings
        )

    def on_train_begin(self, dataloader: Any = None) -> None:
        """Nothing to do; so with the next five."""

    pre_epoch_begin = on_train_begin

    def on_train_end(self) -> None:
        """Nothing to do."""

    post_epoch_end = on_train_end
    on_before_eval = on_train_end
    on_after_eval = on_train_end

    def _score(self, network: nn.Module) -> float | None:
        return None if self.eval_func is None else float(self.eval_func(network))

    def _training(self) -> tuple[Callable[[nn.Module], Any], int | None]:
        """The training function and the batches of an epoch, where they are known."""
        if self._train is None:
            return automatic_training(self)
        known = hasattr(self.train_dataloader, "__len__")
        return self._train, len(self.train_dataloader) if known else None

    @contextmanager
    def _at_each_step(self) -> Iterator[None]:
        """Follow every optimizer that has one of the parameters, as long as this lasts."""
        pruner = self.pruner

        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
            return pruner.step_begins(optimizer, args, kwargs) if pruner.holds(optimizer) else None

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if pruner.holds(optimizer):
                pruner.step_ends(optimizer)

        handles = [
            register_optimizer_step_pre_hook(before),
            register_optimizer_step_post_hook(after),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _plain(model: nn.Module | common.Model | None) -> nn.Module | None:
    return None if model is None else common.Model(model).model
