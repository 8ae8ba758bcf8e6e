"""Profiles that are given: by a file of ratios, the network's own zeros, or an N:M pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from envs import IntArray, LayerRow
from ws_learner.config import METHODS, WeightSparseConfig, parse_pattern_spec
from ws_learner.core import UserError, say
from ws_learner.pruning import found_zeros
from ws_learner.report import read_ratios
from ws_learner.search.layer_limits import layer_limits, refuse_outside
from ws_learner.search.units import build_plan

__all__ = ["fixed_profile"]


def fixed_profile(
    model: nn.Module, layers: Sequence[LayerRow], config: WeightSparseConfig
) -> IntArray | None:
    """(L,) zeros that the settings fix, with a line that says how many; None for a protocol.

    Raises:
        UserError: The ratios do not fit the network or a layer's own bounds, or the network has no
            zeros to keep.
    """
    zeros = _fixed(model, layers, config)
    if zeros is not None:
        counts = {row.name: int(count) for row, count in zip(layers, zeros, strict=True)}
        by_file = config.ws_ratios is not None
        where = "`ws_ratios`" if by_file else f"`ws_pattern` {config.pattern_spelling}"
        refuse_outside(counts, layer_limits(layers, config, general=(0.0, 1.0)), where=where)
    return zeros


def _fixed(
    model: nn.Module, layers: Sequence[LayerRow], config: WeightSparseConfig
) -> IntArray | None:
    total = sum(row.weights for row in layers)
    if config.ws_ratios is not None:
        zeros = read_ratios(config.ws_ratios, layers)
        _check_total(int(zeros.sum()) / total, config)
        return zeros
    if METHODS[config.ws_method].keeps_zeros:
        found = found_zeros(model, [row.name for row in layers])
        zeros = np.array(list(found.values()), dtype=np.int64)
        if not zeros.any():
            raise UserError(
                "`ws_method` pattern_lock: the network has no zeros to keep; give sparse weights "
                "with `dense_checkpoint`"
            )
        share = int(zeros.sum()) / total
        say(f"pattern_lock: {share:.4f} of the weights are zero (`ws_prune_ratio` is not used)")
        return zeros
    if config.ws_prune_ratio_prtl == "given":  # N:M: as many zeros as the pattern makes
        plan = build_plan(model, layers, config)
        most = [0 if row.exempt else plan.most(row.name) for row in layers]
        say(
            f"pattern {config.pattern_spelling}: {sum(most) / total:.4f} of all weights become zero"
        )
        return np.array(most, dtype=np.int64)
    return None


_TOLERANCE = 0.005  # ratios in a table are rounded


def _check_total(share: float, config: WeightSparseConfig) -> None:
    """Say what the given ratios come to; refuse another target, unless it was not chosen."""
    target = config.ws_prune_ratio
    by_pattern = parse_pattern_spec(config.pattern_spelling).fixed_ratio
    unset = target in (WeightSparseConfig.ws_prune_ratio, by_pattern)
    named = config.ws_ratios if isinstance(config.ws_ratios, Path) else "`ws_ratios`"
    if not unset and abs(share - target) > _TOLERANCE:
        raise UserError(
            f"`ws_ratios` makes {share:.4f} of all weights zero, `ws_prune_ratio` asks for "
            f"{target:g}: leave `ws_prune_ratio` out, or change the ratios"
        )
    say(f"ratios of {named}: {share:.4f} overall, which is the target")
