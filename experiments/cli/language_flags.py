"""Which flags have an effect on a causal language model. Free of torch."""

from __future__ import annotations

from types import ModuleType

from ws_learner.language import LANGUAGE_PROTOCOLS

__all__ = [
    "LANGUAGE_DEFAULTS",
    "LANGUAGE_DEFAULTS_SHOWN",
    "LANGUAGE_FLAGS",
    "LANGUAGE_PROTOCOLS",
    "LANGUAGE_SETTINGS",
    "is_language_model",
]

_RUN = (*("run_dir", "config", "include", "seed", "exec_mode", "quiet", "name", "tag", "track"),)
LANGUAGE_SETTINGS = (
    *("ws_prune_ratio", "ws_prune_ratio_prtl", "ws_pattern", "ws_ratios"),
    *("ws_ratio_min", "ws_ratio_max", "ws_nb_rlouts", "ws_rlouts_per_round", "ws_patience"),
)
LANGUAGE_FLAGS = frozenset((*_RUN, *LANGUAGE_SETTINGS))
"""All of them but the experiment's own."""

LANGUAGE_DEFAULTS = {"ws_prune_ratio": 0.5, "ws_prune_ratio_prtl": "uniform"}
"""Defaults that are not those of other networks."""
LANGUAGE_DEFAULTS_SHOWN = LANGUAGE_DEFAULTS | {
    "ws_prune_ratio": "0.5; 0 with --drop_blocks or --drop_neurons; with N:M the pattern's own"
}
"""The same as the help page says it."""


def is_language_model(module: ModuleType) -> bool:
    """Whether an experiment file is of a causal language model."""
    return hasattr(module, "language_task")
