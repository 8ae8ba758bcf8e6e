"""Zeros of each layer by a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from envs import IntArray, LayerRow, count_bounds, largest_remainder
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.language.block_scores import RATIOS
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer, layer_rows
from ws_learner.language.protocol_names import BY_BLOCK, SEARCHES
from ws_learner.language.ratio_files import RatioFiles
from ws_learner.language.searched import search_ratios
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.survey import OWN_DENSITIES, Survey, survey_network
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern, parse_pattern
from ws_learner.report import read_ratios
from ws_learner.search import CLOSED_FORM, AllocationContext, owl_of_shares

__all__ = ["allocate", "block_rows", "ratio_context", "spread"]


def allocate(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    *,
    config: WeightSparseConfig,
    settings: LanguageSettings,
    windows: Windows,
    files: RatioFiles,
) -> IntArray:
    """(L,) planned zeros of each layer, each a number that the pattern can make.

    `uniform`, `heurist`, `erk` and `knapsack` give a ratio to each layer; `progression`, `owl`,
    `divergence` and searches by rollouts one to each block, which its layers share.

    Args:
        network: The dense network.
        layers: Its layers.
        config: Target, protocol, pattern, bounds.
        settings: What searches are rewarded for.
        windows: Protocols that measure read calibration and search.
        files: For what is measured, so that another call need not.

    Raises:
        UserError: The bounds do not allow the target.
    """
    pattern, name = parse_pattern(config.pattern_spelling), config.ws_prune_ratio_prtl
    rows = layer_rows(layers)
    measure = partial(survey_network, network, layers, windows, pattern=pattern, kept=files.survey)
    if config.ws_ratios is not None:
        zeros = read_ratios(config.ws_ratios, rows)
    elif name in SEARCHES:
        found = measure(own=True, errors=False)
        blocks = search_ratios(
            network,
            layers,
            ratio_context(block_rows(network, layers), config, found),
            outliers=found.outliers.tolist(),
            config=config,
            settings=settings,
            windows=windows,
            pattern=pattern,
            files=files,
        )
        zeros = spread(blocks, layers)
    elif name in BY_BLOCK:
        found = measure(own=name != "owl", errors=False)
        context = ratio_context(block_rows(network, layers), config, found)
        if name == "owl":
            blocks = owl_of_shares(found.outliers, context)
        else:
            blocks = CLOSED_FORM[name](context)
        zeros = spread(blocks, layers)
    else:
        curves = measure(own=False, errors=True) if name == "knapsack" else None
        named = "uniform" if name == "given" else name
        zeros = CLOSED_FORM[named](ratio_context(rows, config, curves))
    return _feasible(zeros, layers, pattern)


def ratio_context(
    rows: tuple[LayerRow, ...], config: WeightSparseConfig, found: Survey | None
) -> AllocationContext:
    """Budget and bounds of layers or blocks.

    Args:
        rows: A row for each.
        config: Target and bounds.
        found: What was measured, if the protocol needs it.

    Raises:
        UserError: The bounds do not allow the target.
    """
    weights = np.array([row.weights for row in rows], dtype=np.int64)
    lower, upper = count_bounds(config.ws_ratio_min, config.ws_ratio_max, weights)
    budget = round(config.ws_prune_ratio * int(weights.sum()))
    if not lower.sum() <= budget <= upper.sum():
        raise UserError(
            f"`ws_prune_ratio` {config.ws_prune_ratio}: must lie between `ws_ratio_min` "
            f"{config.ws_ratio_min} and `ws_ratio_max` {config.ws_ratio_max}"
        )

    def unread() -> None:
        raise AssertionError("not measured")

    own = None if found is None or not found.own.size else (np.array(OWN_DENSITIES), found.own)
    return AllocationContext(
        layers=rows,
        budget=budget,
        lower=lower,
        upper=upper,
        magnitudes=unread,  # type: ignore[arg-type]
        curves=unread if found is None else lambda: (np.array(RATIOS), found.errors),  # type: ignore[arg-type]
        own=lambda: own,
    )


def block_rows(network: BlockNetwork, layers: Sequence[BlockLayer]) -> tuple[LayerRow, ...]:
    """A row for each block."""
    sizes = [0] * len(network)
    for layer in layers:
        sizes[layer.block] += layer.row.weights
    return tuple(
        LayerRow(
            name=network.block_name(number),
            kind="block",
            role="other",
            shape=(size, 1),
            weights=size,
            macs=size,
        )
        for number, size in enumerate(sizes)
    )


def spread(blocks: IntArray, layers: Sequence[BlockLayer]) -> IntArray:
    """Zeros of the layers with the ratio of their block."""
    zeros = np.zeros(len(layers), dtype=np.int64)
    for number, count in enumerate(blocks.tolist()):
        places = [place for place, layer in enumerate(layers) if layer.block == number]
        sizes = np.array([layers[place].row.weights for place in places], dtype=np.int64)
        ideal = count * sizes / max(int(sizes.sum()), 1)
        zeros[places] = largest_remainder(ideal, count, lower=0 * sizes, upper=sizes)
    return zeros


def _feasible(zeros: IntArray, layers: Sequence[BlockLayer], pattern: Pattern) -> IntArray:
    return np.array(
        [
            pattern.feasible(layer.matrix, int(count))
            for layer, count in zip(layers, zeros, strict=True)
        ],
        dtype=np.int64,
    )
