"""Layers that no gradient has reached, under a criterion that reads gradients."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ws_learner.core import warn
from ws_learner.pruning.criteria import Criterion, magnitude

__all__ = ["UnfeltLayers"]


class UnfeltLayers:
    """Ranks them by magnitude, where all scores of 0 would mean any order; says so once each."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def ranked(
        self,
        criterion: Criterion,
        scores: Mapping[str, Tensor],
        values: Mapping[str, Tensor],
        *,
        compared: bool = False,
    ) -> dict[str, Tensor]:
        """The scores, or the magnitudes of `values` if not one of them is other than 0.

        Args:
            criterion: It made the scores.
            scores: Of layers that lose their units together, or of one.
            values: The weights.
            compared: Layers are compared by their scores, and such ones went first.
        """
        if not criterion.needs_gradients or any(bool(score.any()) for score in scores.values()):
            return dict(scores)
        if new := [name for name in scores if name not in self._told]:
            self._told |= set(new)
            first = ", they are the first to go" if compared else ""
            warn(
                f"warning: no gradient has reached {', '.join(new)} (frozen, or not used?), so the "
                f"criterion knows nothing of these weights: they are ranked by magnitude{first}"
            )
        return {name: magnitude(values[name]) for name in scores}
