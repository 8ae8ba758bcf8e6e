"""What protocols want to know of a dense network, measured block by block."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs import FloatArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.block_scores import error_curve, outliers_of, swapped, wanda_weight
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import embed
from ws_learner.language.grams import collect_block_grams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.predictions import DensePredictions
from ws_learner.language.walk import run_windows
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern

__all__ = ["OWN_DENSITIES", "Survey", "survey_network"]

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


def survey_network(
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
    better solvers. What is measured of a block is written when it is finished, and another call
    goes on from there.

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
        part = kept.with_suffix(".part")
        state = _Survey(network, layers, windows, pattern, own=own, errors=errors).run(part)
        save_state_file(kept, state)
        part.unlink(missing_ok=True)
    return Survey(
        own=state["own"].numpy(),
        outliers=state["outliers"].numpy(),
        errors=state["errors"].numpy(),
    )


class _Survey:
    """The measurement, see `survey_network`."""

    def __init__(
        self,
        network: BlockNetwork,
        layers: Sequence[BlockLayer],
        windows: Windows,
        pattern: Pattern,
        *,
        own: bool,
        errors: bool,
    ) -> None:
        self._network, self._layers, self._windows = network, layers, windows
        self._pattern, self._own, self._errors = pattern, own, errors
        self._hidden, self._calls = embed(network, windows.calibration[:_CALIBRATION])
        self._search, _ = embed(network, windows.search)
        self._dense: DensePredictions | None = None

    def run(self, part: Path) -> dict[str, Tensor]:
        """Measure the blocks that are not in the file of an earlier call."""
        asked = {"own": self._own, "errors": self._errors}
        found = load_state_file(part) if part.exists() else {}
        rows = json.loads(found["rows"]) if found.get("asked") == asked else []
        if self._own and len(rows) < len(self._network):
            behind = self._search.clone()
            self._run_blocks(range(len(self._network)), behind)
            self._dense = DensePredictions(
                self._network, self._windows.search, behind, folder=part.parent
            )
        with track("measuring blocks", total=len(self._network), done=len(rows)) as progress:
            for number in range(len(self._network)):
                if number >= len(rows):
                    rows.append(self._row(number))
                    save_state_file(part, {"asked": asked, "rows": json.dumps(rows)})
                    progress.advance()
                self._run_blocks([number], self._hidden, self._search)
        return {
            "own": torch.tensor([row["own"] for row in rows], dtype=torch.float64),
            "outliers": torch.tensor([row["outliers"] for row in rows], dtype=torch.float64),
            "errors": torch.tensor([one for row in rows for one in row["errors"]],
                                   dtype=torch.float64),
        }  # fmt: skip

    def _row(self, number: int) -> dict[str, Any]:
        """What is known of a block from its dense inputs."""
        inside = [layer for layer in self._layers if layer.block == number]
        states = []
        with torch.no_grad(), self._network.block(number) as block:
            grams = collect_block_grams(block, self._hidden, self._calls[number])
            outliers = outliers_of(block, inside, grams)
            errors = [error_curve(block, one, grams, self._pattern)
                      for one in inside] if self._errors else []  # fmt: skip
            for density in OWN_DENSITIES if self._own else ():
                prune = partial(wanda_weight, ratio=1 - density, pattern=self._pattern)
                with swapped(block, inside, prune, grams):
                    states.append(self._search.clone())
                    run_windows(block, states[-1], self._calls[number])
        return {"own": self._divergences(number, states), "outliers": outliers, "errors": errors}

    def _divergences(self, number: int, states: list[Tensor]) -> list[float]:
        """KL divergence in nats per token of networks from the states behind a pruned block."""
        if self._dense is None:
            return []
        self._run_blocks(range(number + 1, len(self._network)), *states)
        return [self._dense.divergence(state) for state in states]

    def _run_blocks(self, numbers: Iterable[int], *states: Tensor) -> None:
        for number in numbers:
            with self._network.block(number) as block:
                for one in states:
                    run_windows(block, one, self._calls[number])
