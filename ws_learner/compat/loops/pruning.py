"""A sparsifier from the begin to the end of a training that another package runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ws_learner.compat.loops.own_groups import OwnGroups
from ws_learner.compat.loops.plan import PruningPlan
from ws_learner.core import UserError, say
from ws_learner.pruning import PRUNED_FROM, Sparsifier, count_zeros, unwrap_optimizer

__all__ = ["LoopPruning", "digest"]

_NOTABLE = 0.01  # share of zeros in a network that is said before they are trained again


class LoopPruning:
    """Builds, attaches, saves, restores and finalizes the sparsifier of one training.

    Attributes:
        sparsifier: Of the training that runs or ran last; None before.
    """

    def __init__(self, plan: PruningPlan) -> None:
        self._plan, self._total = plan, 0
        self.sparsifier: Sparsifier | None = None
        self._groups: OwnGroups | None = None

    def begin(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        *,
        steps: float | None,
        saved: Mapping[str, Any] | None,
    ) -> Sparsifier:
        """Attach a new sparsifier.

        Args:
            model: Holds the weights of the checkpoint, if one is resumed.
            optimizers: Perhaps wrapped; that which has the parameters is followed.
            steps: Optimizer steps of the whole training; None: not known.
            saved: A `state()`, to continue.

        Raises:
            UserError: The plan does not fit the network, the training or the saved state.
        """
        self.detach()
        self._total = self._plan.steps(steps)
        if saved is not None:
            self._plan.check_same(saved["plan"], self._total)
        self.sparsifier = sparsifier = self._plan.build(model, self._total)
        if saved is not None:
            sparsifier.load_state_dict(saved["sparsifier"])
        optimizer = _holder(model, sparsifier, [unwrap_optimizer(each) for each in optimizers])
        self._groups = OwnGroups(optimizer)
        sparsifier.attach(optimizer)
        if saved is None:
            _mention_zeros(model, sparsifier)
        self._groups.take()
        if saved is not None:
            self._groups.load_state_dict(saved["own_groups"])
        return sparsifier

    def state(self) -> dict[str, Any]:
        """For a checkpoint: tensors and plain values."""
        if self.sparsifier is None:
            return {}
        return {
            "plan": self._plan.record(self._total),
            "sparsifier": self.sparsifier.state_dict(),
            "own_groups": {} if self._groups is None else self._groups.state_dict(),
        }

    def end(self, model: nn.Module) -> None:
        """Finalize; the zeros are counted in the network that the loop hands out.

        Raises:
            UserError: Training ended too early, or another network was trained.
        """
        if self.sparsifier is None:
            raise UserError("the training never began, so nothing was pruned")
        masks = self.sparsifier.masks
        try:
            self.sparsifier.finalize()
        except UserError as error:
            if self.sparsifier.finished:
                raise
            raise UserError(
                f"{error}. The network is not as sparse as asked for; resume from a checkpoint, "
                "which holds the pruning's state, to finish it"
            ) from error
        finally:
            self.detach()
        parameters = dict(model.named_parameters(remove_duplicate=False))
        zeros = 0
        for name, mask in masks.items():
            own = parameters.get(name)
            if own is None or bool((own.detach()[~mask.to(own.device)] != 0).any()):
                raise UserError(
                    f"{name}: pruned weights are not zero in the trained network: another callback "
                    "has replaced the parameter; let it copy values into it instead"
                )
            zeros += count_zeros(mask)
        size = sum(mask.numel() for mask in masks.values())
        say(f"pruned: {zeros} of {size} weights in {len(masks)} layers are zero")

    def detach(self) -> None:
        """Leave the optimizer alone."""
        if self.sparsifier is not None:
            self.sparsifier.detach()
        if self._groups is not None:
            self._groups.remove()


def digest(model: nn.Module, names: Iterable[str]) -> str:
    """SHA-256 over the bytes of some parameters."""
    sha = hashlib.sha256()
    for name in sorted(names):
        tensor = model.get_parameter(name).detach().cpu().contiguous()
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _holder(model: nn.Module, sparsifier: Sparsifier, optimizers: list[Optimizer]) -> Optimizer:
    """The optimizer of the parameters to prune, else any: `attach` says what it lacks."""
    if not optimizers:
        raise UserError("the training has no optimizer")
    wanted = {id(model.get_parameter(name)) for name in sparsifier.masks}
    for optimizer in optimizers:
        if wanted <= {id(p) for group in optimizer.param_groups for p in group["params"]}:
            return optimizer
    return optimizers[0]


def _mention_zeros(model: nn.Module, sparsifier: Sparsifier) -> None:
    """Say that a sparse network is about to be trained as a dense one."""
    masks = sparsifier.masks
    if not masks or not all(bool(mask.all()) for mask in masks.values()):
        return
    size = sum(mask.numel() for mask in masks.values())
    zeros = sum(count_zeros(model.get_parameter(name)) for name in masks)
    if _NOTABLE * size < zeros < PRUNED_FROM * size:  # of more the sparsifier has told
        say(
            f"{zeros / size:.0%} of the weights to prune are zero already; they will be trained "
            "and pruned anew. To keep them, use PatternLockConfig() and zeros=found_zeros"
        )
