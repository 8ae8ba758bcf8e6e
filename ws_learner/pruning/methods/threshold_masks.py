"""Threshold movement: weights with scores above a rising threshold are kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.core import UserError
from ws_learner.pruning.methods.learned_scores import LearnedScores
from ws_learner.pruning.methods.movement_scores import initial_threshold, kept_of_all
from ws_learner.pruning.methods.stored_masks import StoredMasks
from ws_learner.pruning.methods.tensor_state import copy_parts, take_part
from ws_learner.pruning.methods.warm_up_clock import WarmUpClock
from ws_learner.pruning.methods.warm_up_settings import WarmUpSettings
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.patterns.structured import resolve

__all__ = ["ThresholdMovement"]


class ThresholdMovement:
    """Scores learn before the warm-up, masks follow during it; both are frozen after it.

    At optimizer step s of the warm-up the forward pass uses the mask S > min(threshold(s), 98th
    percentile of S), and the penalty's factor is share(s) x F. The masks of the last such step
    are final, or what structured masking makes of them.
    """

    def __init__(
        self,
        config: WarmUpSettings,
        parameters: Mapping[str, nn.Parameter],
        *,
        scores: LearnedScores,
        biases: Mapping[str, str],
        total_steps: int,
    ) -> None:
        """Start dense.

        Args:
            config: The settings.
            parameters: Weights and biases that have scores.
            scores: Of each of them.
            biases: Weight -> its bias.
            total_steps: Optimizer steps of the whole training.
        """
        self._config, self._scores, self._biases = config, scores, dict(biases)
        self._in_place = StoredMasks(parameters)
        self._clock = WarmUpClock(config, total_steps)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`; biases too."""
        return self._in_place.masks

    @property
    def frozen(self) -> bool:
        """Whether the warm-up is over."""
        return self._scores.frozen

    def readings(self) -> dict[str, float]:
        """Values to plot, by name."""
        return {"prune/threshold": self._clock.threshold, "prune/factor": self._clock.factor}

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`: nothing is planned; the zeros that the masks make now."""
        return {
            name: count_zeros(mask)
            for name, mask in self.masks.items()
            if name not in self._biases.values()
        }

    def epoch_begin(self, step: int) -> None:
        """See `CountsEpochs`; where the epoch's length shows that the warm-up begins, masks follow.

        Raises:
            UserError: An epoch had another length than the schedule was made for.
        """
        before = self._clock.begun
        self._clock.epoch_begin(step)
        if self._clock.begun and not before:
            self._renew()

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._in_place.to_device()
        self._scores.attach(optimizer, self._in_place.weights)

    adds_terms = False  # the penalty's gradient is the scores' own

    @property
    def reads_gradients(self) -> bool:
        """See `UsesGradients`."""
        return not self.frozen

    @property
    def sets_gradients(self) -> bool:
        """See `UsesGradients`."""
        return self._scores.trained

    def new_gradients(self) -> None:
        """See `UsesGradients`: there are no terms."""

    def on_gradients(self) -> None:
        """See `Method`: the scores' gradients, from step 0 on."""
        self._in_place.take_over_writes()
        if not self.frozen:
            masked = self._clock.begun
            values = self._in_place.dense_values() if masked else self._in_place.weights
            self._scores.learn(self._in_place.weights, values, self._clock.factor)

    def before_step(self) -> None:
        """See `Method`."""
        self._in_place.mask_gradients()

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._clock.step = step
        if not self._clock.begun:
            return
        if not self._clock.over:
            self._renew()
            return
        if not self.frozen:
            self._finish_warm_up()
            self._scores.freeze(optimizer)
            self._in_place.mask_state(optimizer)
        self._in_place.mask_weights()

    def penalty(self) -> Tensor:
        """See `Method`: for the log; its gradient is added to the scores' at the step itself."""
        return self._scores.loss(self._clock.factor)

    def is_finished(self, step: int) -> bool:
        """See `HasEnd`."""
        return self.frozen

    def finish(self, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: The warm-up is not over.
        """
        if not self.is_finished(step):
            ramp = self._clock.ramp
            end = "its end" if ramp is None else f"step {ramp.end_step}"
            raise UserError(
                f"training ended at step {step}, in the warm-up, which lasts until {end}: train "
                "longer, lower warmup_end_epoch, or call epoch_begin() if epochs are counted"
            )
        self._in_place.make_zeros(stacklevel=4)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        scores = copy_parts({"score": self._scores.state_dict()})
        frozen = {"frozen": torch.tensor(self.frozen)}
        return self._in_place.state_dict() | scores | self._clock.state_dict() | frozen

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        scores, _ = take_part(state, "score")
        masks = {k: v for k, v in state.items() if k.startswith(("mask.", "retained."))}
        if not scores or "first_threshold" not in state:
            raise UserError("the saved state belongs to a method other than movement")
        self._in_place.load_state_dict(masks)
        self._scores.load_state_dict(scores)
        self._clock.load_state_dict(state)
        if bool(state["frozen"]):
            self._scores.freeze()

    def _renew(self) -> None:
        values, grids = self._scores.values, self._scores.grids
        parts = [(score.detach(), grids[name].size) for name, score in values.items()]
        if self._clock.wants_first:
            self._clock.set_first(initial_threshold(parts))
        unknown = torch.stack([torch.isnan(score).any() for score, _ in parts]).tolist()
        if any(unknown):
            name = list(values)[unknown.index(True)]
            raise UserError(f"movement: a score of {name} is NaN; has the training diverged?")
        masks = kept_of_all(parts, self._clock.threshold)
        self._in_place.dense_values()
        self._in_place.update_masks(
            {name: grids[name].spread(mask) for name, mask in zip(values, masks, strict=True)}
        )

    def _finish_warm_up(self) -> None:
        if self._config.rule is not None:
            self._in_place.dense_values()
            scores = self._scores.scores(self._in_place.weights)
            self._in_place.update_masks(
                resolve(
                    self._config.groups,
                    self.masks,
                    scores=scores,
                    biases=self._biases,
                    rule=self._config.rule,
                )
            )
        empty = [n for n, mask in self.masks.items() if mask.ndim > 1 and not bool(mask.any())]
        if empty:
            _warn_empty(empty)


def _warn_empty(names: Sequence[str]) -> None:
    warnings.warn(
        f"movement: nothing is left of {', '.join(names[:3])} ({len(names)} layers): lower "
        "importance_regularization_factor if that was not meant",
        stacklevel=2,
    )
