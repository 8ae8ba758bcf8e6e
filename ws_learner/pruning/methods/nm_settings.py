"""Build the settings of an N:M method from the learner's flags."""

from __future__ import annotations

from typing import Any

from ws_learner.config import WeightSparseConfig
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.pruning.methods.nm_config import NMConfig
from ws_learner.pruning.methods.sdgf import SdgfConfig
from ws_learner.pruning.methods.srste import SrSteConfig
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.schedules.nm_phases import Phases

__all__ = ["build_nm_config"]


def build_nm_config(
    config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
) -> NMConfig:
    """The settings of `srste`, `mdgf` or `sdgf`, with phases laid over the training.

    Raises:
        UserError: The phases do not fit.
    """
    epochs = total_steps / steps_per_epoch
    dense, fine_tune = config.nm_dense_epochs, config.nm_fine_tune_epochs
    tuned = 0.0 if config.ws_method == "srste" else 0.2
    common: dict[str, Any] = {
        "pattern": parse_pattern(config.pattern_spelling),
        "fine_tune_mask": config.nm_fine_tune_mask,
        "remainder": config.ws_remainder,
        "phases": Phases.of_epochs(
            total_steps,
            steps_per_epoch=steps_per_epoch,
            dense=0.05 * epochs if dense is None else dense,
            fine_tune=tuned * epochs if fine_tune is None else fine_tune,
        ),
    }
    if config.ws_method == "srste":
        return SrSteConfig(**common, weight=config.srste_lambda, term=config.srste_term)
    common |= {"beta": config.mdgf_beta, "zero_at": config.mdgf_zero_at}
    if config.ws_method == "mdgf":
        return MdgfConfig(**common, decay=config.mdgf_decay, gradient=config.mdgf_gradient)
    return SdgfConfig(
        **common,
        decay=config.sdgf_mask_decay,
        gradient="ste" if config.sdgf_mask_decay == "step" else config.mdgf_gradient,
        shape=config.sdgf_decay,
        stages=config.sdgf_stages,
    )
