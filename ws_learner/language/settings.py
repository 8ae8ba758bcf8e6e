"""Settings of a causal language model's pruning. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ws_learner.config import SolverName
from ws_learner.core import check_settings, complain

__all__ = ["LanguageSettings", "RewardName"]

RewardName = Literal["kl", "tv", "perplexity"]


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """How a causal language model is pruned and measured."""

    solver: SolverName = "alternating"
    """How a layer is pruned from its inputs' Gram matrix (docs/language_models.md)."""
    window: int = 512
    """Tokens of a window."""
    calibration_windows: int = 32
    """Windows whose hidden states give the layers' Gram matrices."""
    search_windows: int = 2
    """Windows on which protocols measure what pruning does to the network's predictions."""
    search_reward: RewardName = "kl"
    """What searches by rollouts judge a profile by on the search windows: KL divergence or total
    variation distance (tv) from the dense network's predictions, or perplexity."""
    select_windows: int = 8
    """Other windows, on which the best profiles of a search by rollouts are scored again."""
    test_windows: int = 12
    """Held-out windows for perplexity."""
    drop_blocks: int = 0
    """Whole blocks that are removed first: one after another, each time the block without which the
    predictions change least."""
    drop_neurons: float = 0.0
    """Share of the neurons of every block's MLP that is removed first, the same in all blocks."""
    recover_minutes: float = 0.0
    """Minutes in which the kept weights train on the calibration texts after pruning; 0: none. The
    whole network is then in memory, twice to distil."""
    recover_by: Literal["distill", "fine-tune"] = "distill"
    """What recovery trains for: the dense network's predictions, or the next token."""
    recover_rank: int = 0
    """LoRA: recovery trains a product of this rank for each weight, added under the mask; 0: the
    weights themselves."""
    recover_rate: float | None = None
    """Highest learning rate of recovery; without it 0.0001, and 0.001 with LoRA."""

    def __post_init__(self) -> None:
        check_settings(self)
        complain(self._problems())

    @property
    def learning_rate(self) -> float:
        """The highest learning rate of recovery."""
        usual = 1e-3 if self.recover_rank else 1e-4
        return usual if self.recover_rate is None else self.recover_rate

    def _problems(self) -> Iterator[str]:
        least = {"window": 2, "calibration_windows": 1, "search_windows": 1, "test_windows": 2}
        least |= {"select_windows": 0, "drop_blocks": 0, "recover_minutes": 0, "recover_rank": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value < number:
                yield f"`{name}` {value}: must be at least {number}"
        if not 0 <= self.drop_neurons < 1:
            yield f"`drop_neurons` {self.drop_neurons}: must be at least 0 and below 1"
        if self.recover_rate is not None and self.recover_rate <= 0:
            yield f"`recover_rate` {self.recover_rate}: must be above 0"
        if not self.recover_minutes:
            defaults = {"recover_by": "distill", "recover_rank": 0, "recover_rate": None}
            for name, default in defaults.items():
                if getattr(self, name) != default:
                    yield f"`{name}` {getattr(self, name)}: needs `recover_minutes`"
