"""The evaluator of choices: a rollout whose candidate is one `LayerChoice` for each layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from envs import LayerRow, Score
from ws_learner.core import LayerChoice, NumberFormat, one_thread
from ws_learner.data import Split
from ws_learner.pruning import TrainedBy, layout_of, parameter_of
from ws_learner.search.rollout.choice_database import ChoiceDatabase
from ws_learner.search.rollout.choice_grid import Remainder
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.int8 import rounded
from ws_learner.search.rollout.scoring import scored_twice
from ws_learner.training import Loss, Metric

__all__ = ["ChoiceEvaluator"]


class ChoiceEvaluator:
    """Scores candidates as they are: a choice for each of the L layers of the table.

    Weights of int8 layers are rounded to 8 bits and back, again after a repair or fine-tuning;
    activations are not rounded. There are no slopes. Pickled and given to pools as a
    `RolloutEvaluator` is.

    Args:
        rollouts: The evaluator of zero counts, whose examples and settings are used.
        patterns: Spellings of the patterns to choose from, such as `AUTO_PATTERNS`.
        dtypes: Number formats to choose from.
        remainder: What to do with a layer that blocks do not divide; N:M need layers that they
            divide.
        trained: How the method trains patterns, see `trained_by`.
        limits: Least and most zeros of some layers, see `ChoiceGrid.build`.

    Attributes:
        rollouts: The evaluator of zero counts.
        database: Errors, own divergences and weights of all choices.

    Raises:
        UserError: A pattern is decided by several layers together, or none fits.
    """

    def __init__(
        self,
        rollouts: RolloutEvaluator,
        *,
        patterns: Iterable[str],
        dtypes: Iterable[NumberFormat] = ("fp32",),
        remainder: Remainder = "pad",
        trained: TrainedBy = "masks",
        limits: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self.rollouts = rollouts
        self.database = ChoiceDatabase.open(
            rollouts,
            patterns=patterns,
            dtypes=dtypes,
            remainder=remainder,
            trained=trained,
            limits=limits,
        )

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """The layer table."""
        return self.rollouts.layers

    @property
    def dense(self) -> nn.Module:
        """The dense network."""
        return self.rollouts.dense

    @property
    def loss(self) -> Loss:
        """Task loss of fine-tuning."""
        return self.rollouts.loss

    @property
    def metric(self) -> Metric:
        """Score of each example."""
        return self.rollouts.metric

    def rewarded(self) -> str:
        """What the reward measures, see `RolloutEvaluator.rewarded`."""
        return self.rollouts.rewarded()

    def on(self, split: Split) -> Self:
        """A copy that scores on all images of the select split."""
        other = copy.copy(self)
        other.rollouts = self.rollouts.on(split)
        return other

    def with_rollouts(self, rollouts: RolloutEvaluator) -> Self:
        """A copy with the same choices that trains and scores as another evaluator does."""
        other = copy.copy(self)
        other.rollouts = rollouts
        return other

    def mean_loss(self, choices: Sequence[LayerChoice]) -> float:
        """Mean task loss of a candidate's network, see `network`, on the scoring examples."""
        with one_thread():
            return self.rollouts.exam.mean_loss(self.network(choices), self.loss)

    def checked(self, choices: Any) -> tuple[LayerChoice, ...]:
        """Check a candidate.

        Raises:
            ValueError: It is not one choice for each layer, a pattern does not fit its layer, or
                whole units of it cannot make that many zeros.
        """
        found = tuple(choices)
        if len(found) != len(self.layers) or not all(isinstance(c, LayerChoice) for c in found):
            raise ValueError(f"candidate: must be {len(self.layers)} choices, one per layer")
        for layer, choice in enumerate(found):
            self.database.refuse_unfit(layer, choice)
        return found

    def score(self, choices: Sequence[LayerChoice]) -> Score:
        """Score a candidate; if it fails twice, return the worst score with the reason.

        Raises:
            ValueError: The candidate does not match the layer table.
        """
        chosen = self.checked(choices)
        return scored_twice(lambda: self._score(chosen))

    def network(self, choices: Sequence[LayerChoice]) -> nn.Module:
        """Build the scored network of a candidate: pruned, repaired, fine-tuned, in eval mode.

        Raises:
            ValueError: The candidate does not match the layer table.
        """
        chosen = self.checked(choices)
        with one_thread():
            network = self._assembled(chosen)
            if self.rollouts.config.nb_iters_ft:
                self.rollouts.fine_tune(network, self._masks(chosen))
                self._round(network, chosen)
        return network

    def _score(self, choices: Sequence[LayerChoice]) -> Score:
        return self.rollouts.judged(
            self._assembled(choices),
            self._masks(choices),
            zeros=np.array([choice.zeros for choice in choices], dtype=np.int64),
            tuned=lambda network: self._round(network, choices),
        )

    def _assembled(self, choices: Sequence[LayerChoice]) -> nn.Module:
        weights = (self.database.scored_weight(*pair) for pair in enumerate(choices))
        network = self.rollouts.assembled(weights, self._masks(choices))
        if self.rollouts.config.rg_solver == "adam":
            self._round(network, choices)
        return network

    def _masks(self, choices: Sequence[LayerChoice]) -> list[torch.Tensor]:
        return [self.database.mask(*pair) for pair in enumerate(choices)]

    @torch.no_grad()
    def _round(self, network: nn.Module, choices: Sequence[LayerChoice]) -> None:
        """Round the weights of int8 layers that are no longer on their grid."""
        for row, choice in zip(self.layers, choices, strict=True):
            if choice.dtype == "int8":
                weight = parameter_of(network, row.name)
                weight.copy_(rounded(weight, layout_of(network, row.name)))
