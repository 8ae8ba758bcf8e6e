"""Entry points of Neural Compressor 2.x: `prepare_pruning`, `prepare_compression`, hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from ws_learner.compat.neural_compressor.config import OpPruning, WeightPruningConfig
from ws_learner.compat.neural_compressor.plan import layers_of, sparsifier_of
from ws_learner.core import UserError, say
from ws_learner.pruning import Sparsifier, tensor_table, tensor_totals, warn_of_unlocked

__all__ = [
    "CompressionManager",
    "PruningHooks",
    "WeightPruningConfig",
    "prepare_compression",
    "prepare_pruning",
]


class PruningHooks:
    """A network being pruned; every hook of Neural Compressor 2.x is there.

    The work is done by the optimizer's own step hooks: one step is one `optimizer.step()`, however
    many batches are accumulated into it, and a loop need not call anything but `on_train_end()`,
    which checks that the targets are reached.

    Attributes:
        sparsifiers: One for each entry of the config, in its order.
    """

    def __init__(self, model: nn.Module, config: WeightPruningConfig) -> None:
        """Plan; nothing is pruned before an optimizer is there.

        Raises:
            UserError: An op name matches nothing, two entries name a layer, or a pattern does not
                fit.
        """
        self._entries = config.pruning_configs
        named = [layers_of(entry, model) for entry in self._entries]
        _check_once(named, model)
        self._model = model
        self.sparsifiers: tuple[Sparsifier, ...] = tuple(
            sparsifier_of(entry, model, names)
            for entry, names in zip(self._entries, named, strict=True)
        )
        if any(entry.pruning_type == "pattern_lock" for entry in self._entries):
            warn_of_unlocked(model, [name for names in named for name in names])
        self._attached: set[int] = set()
        self._watch: RemovableHandle | None = None

    def follow(self, optimizer: Optimizer) -> None:
        """Prune at this optimizer's steps, whichever layers it trains."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for number, sparsifier in enumerate(self.sparsifiers):
            names = sparsifier.masks
            mine = {id(self._model.get_parameter(name)) for name in names}
            if number not in self._attached and mine & held:
                sparsifier.take_over(optimizer)
                self._attached.add(number)

    def on_train_begin(self, dataloader: Any = None) -> None:
        """Track the first matching optimizer, if none was given."""
        if self._watch is None and len(self._attached) < len(self.sparsifiers):
            self._watch = register_optimizer_step_pre_hook(
                lambda optimizer, *_: self.follow(optimizer)
            )

    def on_train_end(self) -> None:
        """Stop tracking the optimizer and check every target.

        Raises:
            UserError: Training ended before a ramp did, or no optimizer was seen.
        """
        if self._watch is not None:
            self._watch.remove()
            self._watch = None
        for number, (entry, sparsifier) in enumerate(
            zip(self._entries, self.sparsifiers, strict=True)
        ):
            if number in self._attached and not sparsifier.attached:
                continue  # ended already, or the network was prepared again
            self._check_finished(number, entry, sparsifier)
            if sparsifier.masks:
                sparsifier.finalize()
        totals = tensor_totals(tensor_table(self._model.state_dict()))
        say(f"pruned: {totals['matrix_sparsity']:.2%} of all weights are zero")

    def _check_finished(self, number: int, entry: OpPruning, sparsifier: Sparsifier) -> None:
        if not sparsifier.masks:  # a target of 0
            return
        if number not in self._attached:
            raise UserError(
                f"pruning_configs[{number}]: no step of an optimizer that trains its layers was "
                "seen; give prepare_pruning the optimizer, or call on_train_begin() before training"
            )
        if entry.pruning_type != "pattern_lock" and sparsifier.step < entry.end_step:
            raise UserError(
                f"pruning_configs[{number}]: training ended after {sparsifier.step} optimizer "
                f"steps, before end_step {entry.end_step}: train longer or lower it"
            )

    def on_after_compute_loss(
        self, inputs: Any, student_output: Any, student_loss: Tensor, teacher_output: Any = None
    ) -> Tensor:
        """Return the loss as it is."""
        return student_loss

    def on_epoch_begin(self, epoch: int = 0) -> None:
        """Nothing to do; so with the next ones."""

    def on_step_begin(self, step: int = 0) -> None:
        """Nothing to do."""
        self.on_train_begin()

    on_batch_begin = on_step_begin

    def on_before_optimizer_step(self) -> None:
        """Nothing to do."""

    on_after_optimizer_step = on_before_optimizer_step
    on_step_end = on_before_optimizer_step
    on_batch_end = on_before_optimizer_step
    on_epoch_end = on_before_optimizer_step
    on_before_eval = on_before_optimizer_step
    on_after_eval = on_before_optimizer_step


class CompressionManager:
    """Result of `prepare_compression`.

    Attributes:
        model: The network, unchanged.
        callbacks: The hooks.
    """

    def __init__(self, model: nn.Module, callbacks: PruningHooks) -> None:
        self.model, self.callbacks = model, callbacks


def prepare_pruning(
    model: nn.Module,
    config: WeightPruningConfig,
    optimizer: Optimizer | None = None,
    dataloader: Any = None,
    loss_func: Any = None,
    framework: str = "pytorch",
    device: Any = None,
) -> PruningHooks:
    """Prune `model` while the user's loop trains it.

    Args:
        model: Its parameters are changed in place, never replaced; saving stays plain
            `state_dict`. Nothing in PyTorch is patched.
        config: What to prune and when.
        optimizer: Tracked at once; by default the first one to step with these parameters.
        dataloader: Not looked at: pruning without training (SparseGPT and the like) is not there.
        loss_func: Not looked at.
        framework: Only `pytorch`.
        device: Not looked at; the model says where it is.

    Returns:
        The hooks; `on_train_end()` checks the targets.

    Raises:
        UserError: See `PruningHooks`; or another framework.
    """
    if framework != "pytorch":
        raise UserError(f"framework {framework}: only pytorch is there")
    if not isinstance(config, WeightPruningConfig):
        raise UserError(f"config {type(config).__name__}: must be a WeightPruningConfig")
    hooks = PruningHooks(model, config)
    if optimizer is None:
        hooks.on_train_begin()
    else:
        hooks.follow(optimizer)
    return hooks


def prepare_compression(model: nn.Module, confs: WeightPruningConfig) -> CompressionManager:
    """Older name of `prepare_pruning`; `callbacks.on_train_begin()` starts it.

    Raises:
        UserError: See `PruningHooks`.
    """
    if not isinstance(confs, WeightPruningConfig):
        raise UserError(f"confs {type(confs).__name__}: must be a WeightPruningConfig")
    return CompressionManager(model, PruningHooks(model, confs))


def _check_once(named: list[tuple[str, ...]], model: nn.Module) -> None:
    owners: dict[int, tuple[int, str]] = {}
    for number, names in enumerate(named):
        for name in names:
            owner = owners.setdefault(id(model.get_parameter(name)), (number, name))
            if owner != (number, name):
                raise UserError(
                    f"{name}: pruned by pruning_configs[{owner[0]}] as {owner[1]} and by "
                    f"pruning_configs[{number}]; exclude it from one with excluded_op_names"
                )
