"""What protocols want to know of a dense network, measured in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from envs import FloatArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.block_scores import error_curve, outliers_of, swapped, wanda_weight
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed, run_block
from ws_learner.language.grams import collect_block_grams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.predictions import DensePredictions
from ws_learner.language.walk import run_windows
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern

__all__ = ["OWN_DENSITIES", "Survey", "survey"]

OWN_DENSITIES = (0.0, 0.3, 0.5)
"""Densities at which each block is pruned alone."""
_CALIBRATION = 8  # windows; a mask by Wanda needs no more


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Measurements of a dense network with B blocks and L layers.

    Attributes:
        own: (B, J) mean KL divergence in nats of the network with one block pruned alone to
            `OWN_DENSITIES`; empty if not asked for.
        outliers: (B,) share of scores |w| x norm of its input above five times the block's mean.
        errors: (L, K) relative squared error of a layer's output at `RATIOS`; empty if not asked
            for.
    """

    own: FloatArray
    outliers: FloatArray
    errors: FloatArray


@dataclass
class _Pass:
    """State of the pass."""

    network: BlockNetwork
    pattern: Pattern
    layers: Sequence[BlockLayer]
    hidden: Tensor  # of the dense network, calibration windows
    search: Tensor  # likewise, search windows
    pruned: list[Tensor] = field(default_factory=list)  # search windows behind one pruned block
    outliers: list[float] = field(default_factory=list)
    errors: list[list[float]] = field(default_factory=list)


def survey(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    windows: Windows,
    *,
    pattern: Pattern,
    own: bool,
    errors: bool,
    kept: Path,
) -> Survey:
    """Measure, or read what an earlier call has measured.

    Masks are Wanda's, which need little; the order of blocks by what pruning them does is that of
    better solvers. For own divergences the hidden states of all networks with one pruned block are
    held: 12 bytes x blocks x search tokens x width.

    Args:
        network: The dense network.
        layers: Its layers.
        windows: Calibration and search are read.
        pattern: Of the masks.
        own: Whether each block is pruned alone.
        errors: Whether the layers' errors are measured.
        kept: File for the result.

    Raises:
        UserError: The disk is full.
    """
    state = load_state_file(kept) if kept.exists() else {}
    lacking = [name for name, asked in (("own", own), ("errors", errors)) if asked
               and not (name in state and state[name].numel())]  # fmt: skip
    if lacking or not state:
        state = _measured(
            network,
            layers,
            windows,
            pattern=pattern,
            own=own,
            errors=errors,
            folder=kept.parent,
        )
        save_state_file(kept, state)
    return Survey(
        own=state["own"].numpy(),
        outliers=state["outliers"].numpy(),
        errors=state["errors"].numpy(),
    )


def _measured(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    windows: Windows,
    *,
    pattern: Pattern,
    own: bool,
    errors: bool,
    folder: Path,
) -> dict[str, Tensor]:
    hidden, calls = embed(network, windows.calibration[:_CALIBRATION])
    search, _ = embed(network, windows.search)
    state = _Pass(network, pattern, layers, hidden, search)
    with track("measuring blocks", total=len(network)) as progress:
        for number, call in enumerate(calls):
            _visit(state, number, call, own=own, errors=errors)
            progress.advance()
    return {
        "own": _divergences(state, windows.search, folder) if own else torch.zeros(0),
        "outliers": torch.tensor(state.outliers, dtype=torch.float64),
        "errors": torch.tensor(state.errors, dtype=torch.float64),
    }


def _visit(state: _Pass, number: int, call: BlockCall, *, own: bool, errors: bool) -> None:
    inside = [layer for layer in state.layers if layer.block == number]
    with torch.no_grad(), state.network.block(number) as block:
        grams = collect_block_grams(block, state.hidden, call)
        state.outliers.append(outliers_of(block, inside, grams))
        if errors:
            state.errors += [error_curve(block, one, grams, state.pattern) for one in inside]
        for earlier in state.pruned:
            run_windows(block, earlier, call)
        for density in OWN_DENSITIES if own else ():
            ratio = 1 - density
            prune = partial(wanda_weight, ratio=ratio, pattern=state.pattern)
            with swapped(block, inside, prune, grams):
                behind = [run_block(block, one, call) for one in torch.split(state.search, 1)]
            state.pruned.append(torch.cat(behind))
        run_windows(block, state.hidden, call)
        run_windows(block, state.search, call)


def _divergences(state: _Pass, windows: Tensor, folder: Path) -> Tensor:
    """(B, J) mean KL divergence from the dense network's predictions, in nats per token."""
    dense = DensePredictions(state.network, windows, state.search, folder=folder)
    found = [dense.divergence(behind) for behind in state.pruned]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, len(OWN_DENSITIES))
