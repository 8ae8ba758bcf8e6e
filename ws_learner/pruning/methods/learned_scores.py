"""Learned movement scores: how far each weight moves away from zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.core import UserError
from ws_learner.pruning.methods.movement_scores import importance_loss, price
from ws_learner.pruning.methods.tensor_state import copy_tensors
from ws_learner.pruning.patterns.score_grid import ScoreGrid
from ws_learner.pruning.wrapped_optimizers import state_of

__all__ = ["OWN_RATE", "LearnedScores", "check_score_rate"]

OWN_RATE = "own_rate"
"""Entry of the scores' optimizer group: its learning rate is not the recipe's."""


def check_score_rate(rate: float) -> None:
    """Check the learning rate of the scores.

    Raises:
        UserError: See above.
    """
    if not 0 < rate < math.inf:
        raise UserError(f"`MovementConfig.score_lr` {rate:g}: must be a number above 0")


class LearnedScores:
    """One trained score for each block of some weights and biases; a `Criterion`.

    With the masked weight W * M in the forward pass and g the loss's gradient by it, the gradient
    of a score is the sum of g * W over its block, masked weights included (Sanh et al. 2020,
    section 4: straight-through). Masks act in place, so that g is the very gradient of the stored
    weight, and nothing is added to the forward or backward pass.
    """

    needs_gradients = True

    def __init__(
        self,
        grids: Mapping[str, ScoreGrid],
        *,
        layers: int,
        lrn_rate: float,
        normalize: bool = False,
        relative: bool = False,
    ) -> None:
        """Start all scores at 0.

        Args:
            grids: Parameter name (weight or bias) -> which of its values share a score.
            layers: How many layers these are.
            lrn_rate: Of the scores, in an optimizer group of their own without weight decay.
            normalize: See `price`.
            relative: No optimizer moves the scores, but rate x gradient / (root mean square of
                the parameter's gradients), so that scores keep apart what matters much and little.
        """
        self.grids, self.layers, self._rate = dict(grids), layers, lrn_rate
        self._normalize, self._relative = normalize, relative
        self.values = {
            name: nn.Parameter(torch.zeros(grid.score_shape)) for name, grid in self.grids.items()
        }
        self.frozen = False
        self._optimizer: Optimizer | None = None
        self._weights = sum(math.prod(grid.shape) for grid in self.grids.values())

    @property
    def trained(self) -> bool:
        """Whether an optimizer moves the scores now."""
        return not self.frozen and not self._relative

    def attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        """Follow the parameters to their device and join `optimizer`, once.

        Raises:
            UserError: The optimizer does not move each score by its own gradient.
        """
        kind = type(optimizer).__name__
        if self.trained and kind in ("LBFGS", "Muon"):
            raise UserError(
                f"{kind} cannot train the scores of movement pruning: it does not move each by its "
                "own gradient; take another optimizer, or `MovementConfig.steps` relative"
            )
        for name, score in self.values.items():
            score.data = score.data.to(parameters[name].device)
        if self._relative:
            return
        self._optimizer = optimizer
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        new = [score for score in self.values.values() if id(score) not in known]
        if new:
            group: dict[str, Any] = {"params": new, "lr": self._rate, "weight_decay": 0.0}
            # There are as many scores as weights: one pass over them takes a third of the time.
            if "fused" in optimizer.defaults and not optimizer.defaults.get("differentiable"):
                group |= {"fused": True, "foreach": False}
            optimizer.add_param_group(group | {OWN_RATE: True})

    @torch.no_grad()
    def start_at_magnitude(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Set each score to its block's mean magnitude, in units of the whole parameter's mean."""
        for name, score in self.values.items():
            sizes = parameters[name].detach().abs()
            blocks = self.grids[name].summed(sizes) / self.grids[name].size
            score.copy_(blocks / sizes.mean().clamp_min(torch.finfo(sizes.dtype).tiny))

    @torch.no_grad()
    def learn(
        self,
        parameters: Mapping[str, nn.Parameter],
        values: Mapping[str, Tensor],
        factor: float = 0.0,
    ) -> None:
        """Set the scores' gradients for the optimizer's next step, or make the step.

        Args:
            parameters: Their gradients are those by the masked weights.
            values: The weights with the values that masked ones had when they were last alive.
            factor: Of the regularisation loss, whose gradient is added here.
        """
        if self.frozen:
            return
        self._keep_rate()
        for name, score in self.values.items():
            grad = parameters[name].grad
            if grad is None:
                score.grad = None
                continue
            grid = self.grids[name]
            moved = grid.summed(grad * values[name]).to(score.dtype)
            if factor:
                share = torch.sigmoid(score)
                share.addcmul_(share, share, value=-1.0)
                moved.add_(share, alpha=factor * self._price(grid))
            if self._relative:
                norm = torch.linalg.vector_norm(moved).clamp_min(torch.finfo(moved.dtype).tiny)
                score.sub_(moved.mul_(self._rate * math.sqrt(moved.numel()) / norm))
            else:
                score.grad = moved

    def _keep_rate(self) -> None:
        """Undo what a learning-rate scheduler, which knows all groups, did to the scores' rate."""
        mine = {id(score) for score in self.values.values()}
        for group in [] if self._optimizer is None else self._optimizer.param_groups:
            if group.get(OWN_RATE) and any(id(each) in mine for each in group["params"][:1]):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(self._rate)
                else:
                    group["lr"] = self._rate

    def loss(self, factor: float) -> Tensor:
        """The regularisation loss, a scalar; `learn` has its gradient already."""
        first = next(iter(self.values.values()))
        if self.frozen or not factor:
            return torch.zeros((), device=first.device)
        parts = [(self.values[name].detach(), grid) for name, grid in self.grids.items()]
        return factor * importance_loss(
            parts, layers=self.layers, weights=self._weights, normalize=self._normalize
        )

    def freeze(self, optimizer: Optimizer | None = None) -> None:
        """Stop training the scores, whatever momentum the optimizer has."""
        self.frozen = True
        for score in self.values.values():
            score.requires_grad_(False)
            score.grad = None
            if optimizer is not None:
                state_of(optimizer).pop(score, None)

    def observe(self, weights: Mapping[str, nn.Parameter]) -> None:
        """See `Criterion`; `learn` does it, which knows the values of masked weights too."""

    def scores(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Criterion`."""
        return {name: self.grids[name].spread(self.values[name].detach()) for name in values}

    def state_dict(self) -> dict[str, Tensor]:
        """See `Criterion`."""
        return {name: score.detach().clone() for name, score in self.values.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Criterion`; the parameters stay the optimizer's own.

        Raises:
            UserError: Names or shapes are others.
        """
        copy_tensors(self.values, state, what="scores belong to another network or pattern")

    def _price(self, grid: ScoreGrid) -> float:
        return price(grid, layers=self.layers, weights=self._weights, normalize=self._normalize)
