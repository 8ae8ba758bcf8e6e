"""Zeros of each layer by a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs import IntArray, LayerRow
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer, layer_rows
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern, parse_pattern
from ws_learner.report import read_ratios

__all__ = ["PROTOCOLS_OF_LANGUAGE", "allocate"]

PROTOCOLS_OF_LANGUAGE = ("uniform", "given")


def allocate(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    *,
    config: WeightSparseConfig,
    windows: Windows,
    state: Path,
) -> IntArray:
    """(L,) planned zeros of each layer, each a number that the pattern can make.

    Args:
        network: The dense network.
        layers: Its layers.
        config: Target, protocol, pattern, bounds.
        windows: Protocols that measure read calibration and search.
        state: Folder for what was measured.

    Raises:
        UserError: The bounds do not allow the target.
    """
    pattern = parse_pattern(config.pattern_spelling)
    if config.ws_ratios is not None:
        zeros = read_ratios(config.ws_ratios, layer_rows(layers))
    else:
        zeros = _uniform(layer_rows(layers), config.ws_prune_ratio)
    return _feasible(zeros, layers, pattern)


def _uniform(rows: Sequence[LayerRow], ratio: float) -> IntArray:
    return np.array([round(ratio * row.weights) for row in rows], dtype=np.int64)


def _feasible(zeros: IntArray, layers: Sequence[BlockLayer], pattern: Pattern) -> IntArray:
    return np.array(
        [
            pattern.feasible(layer.matrix, int(count))
            for layer, count in zip(layers, zeros, strict=True)
        ],
        dtype=np.int64,
    )
