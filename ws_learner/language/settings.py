"""Settings of a causal language model's pruning. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ws_learner.config import SolverName
from ws_learner.core import check_settings, complain

__all__ = ["LanguageSettings"]


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """How a causal language model is pruned and measured."""

    solver: SolverName = "sparsegpt"
    """How a layer is pruned from its inputs' Gram matrix (docs/language_models.md)."""
    window: int = 512
    """Tokens of a window."""
    calibration_windows: int = 32
    """Windows whose hidden states give the layers' Gram matrices."""
    search_windows: int = 2
    """Windows on which protocols measure what pruning does to the network's predictions."""
    test_windows: int = 12
    """Held-out windows for perplexity."""

    def __post_init__(self) -> None:
        check_settings(self)
        complain(self._problems())

    def _problems(self) -> Iterator[str]:
        least = {"window": 2, "calibration_windows": 1, "search_windows": 1, "test_windows": 2}
        for name, number in least.items():
            value = getattr(self, name)
            if value < number:
                yield f"`{name}` {value}: must be at least {number}"
