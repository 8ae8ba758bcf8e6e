"""What protocols want to know of a dense network, measured in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed, logits_of, run_block
from ws_learner.language.grams import BlockGrams, collect_block_grams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.walk import run_windows
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern, solve_layer
from ws_learner.search import outlier_share

__all__ = ["OWN_DENSITIES", "RATIOS", "Survey", "survey"]

OWN_DENSITIES = (0.0, 0.3, 0.5)
"""Densities at which each block is pruned alone."""
RATIOS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Ratios at which each layer's error is measured."""
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
    better solvers.

    Args:
        network: The dense network.
        layers: Its layers.
        windows: Calibration and search are read.
        pattern: Of the masks.
        own: Whether each block is pruned alone.
        errors: Whether the layers' errors are measured.
        kept: File for the result.
    """
    state = load_state_file(kept) if kept.exists() else {}
    lacking = [name for name, asked in (("own", own), ("errors", errors)) if asked
               and not (name in state and state[name].numel())]  # fmt: skip
    if lacking or not state:
        state = _measured(network, layers, windows, pattern=pattern, own=own, errors=errors)
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
) -> dict[str, Tensor]:
    hidden, calls = embed(network, windows.calibration[:_CALIBRATION])
    search, _ = embed(network, windows.search)
    state = _Pass(network, pattern, layers, hidden, search)
    with track("measuring blocks", total=len(network)) as progress:
        for number, call in enumerate(calls):
            _visit(state, number, call, own=own, errors=errors)
            progress.advance()
    return {
        "own": _divergences(state, windows.search) if own else torch.zeros(0),
        "outliers": torch.tensor(state.outliers, dtype=torch.float64),
        "errors": torch.tensor(state.errors, dtype=torch.float64),
    }


def _visit(state: _Pass, number: int, call: BlockCall, *, own: bool, errors: bool) -> None:
    inside = [layer for layer in state.layers if layer.block == number]
    with torch.no_grad(), state.network.block(number) as block:
        grams = collect_block_grams(block, state.hidden, call)
        state.outliers.append(_outliers(block, inside, grams))
        if errors:
            state.errors += [_error_curve(block, one, grams, state.pattern) for one in inside]
        for earlier in state.pruned:
            run_windows(block, earlier, call)
        for density in OWN_DENSITIES if own else ():
            ratio = 1 - density
            prune = partial(_wanda, ratio=ratio, pattern=state.pattern)
            with _swapped(block, inside, prune, grams):
                behind = [run_block(block, one, call) for one in torch.split(state.search, 1)]
            state.pruned.append(torch.cat(behind))
        run_windows(block, state.hidden, call)
        run_windows(block, state.search, call)


def _wanda(weight: Tensor, gram: Tensor, *, ratio: float, pattern: Pattern) -> Tensor:
    if ratio == 1:
        return torch.zeros_like(weight)
    return solve_layer(weight, gram, solver="wanda", pattern=pattern, ratio=ratio).weight


@contextmanager
def _swapped(
    block: nn.Module,
    layers: Sequence[BlockLayer],
    prune: Callable[[Tensor, Tensor], Tensor],
    grams: BlockGrams,
) -> Iterator[None]:
    """Inside, the block's layers have pruned weights."""
    modules = [(one, block.get_submodule(one.name)) for one in layers if one.name in grams]
    before = [module.weight for _, module in modules]
    try:
        for layer, module in modules:
            found = prune(_outputs_first(module, layer), grams[layer.name])
            found = found.T if layer.inputs_first else found
            module.weight = nn.Parameter(found.contiguous(), requires_grad=False)
        yield
    finally:
        for (_, module), weight in zip(modules, before, strict=True):
            module.weight = weight


def _outputs_first(module: nn.Module, layer: BlockLayer) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.T.contiguous() if layer.inputs_first else weight.detach()


def _outliers(block: nn.Module, layers: Sequence[BlockLayer], grams: BlockGrams) -> float:
    scores = [
        (_outputs_first(block.get_submodule(one.name), one).abs()
         * grams[one.name].diagonal().clamp(min=0).sqrt()).flatten()
        for one in layers if one.name in grams
    ]  # fmt: skip
    return outlier_share(torch.cat(scores).numpy()) if scores else 0.0


def _error_curve(
    block: nn.Module, layer: BlockLayer, grams: BlockGrams, pattern: Pattern
) -> list[float]:
    weight = _outputs_first(block.get_submodule(layer.name), layer)
    if layer.name not in grams:
        return [0.0] * len(RATIOS)
    gram = grams[layer.name]
    whole = max(float(((weight @ gram) * weight).sum()), 1e-30)
    curve = []
    for ratio in RATIOS:
        solved = solve_layer(weight, gram, solver="wanda", pattern=pattern, ratio=ratio)
        lost = weight - solved.weight
        curve.append(max(float(((lost @ gram) * lost).sum()) / whole, 0.0))
    rising: list[float] = np.maximum.accumulate(curve).tolist()
    return rising


def _divergences(state: _Pass, windows: Tensor) -> Tensor:
    """(B, J) mean KL divergence from the dense network's predictions, in nats per token."""
    dense = [
        torch.log_softmax(logits.float(), dim=-1)
        for logits in logits_of(state.network, windows, state.search)
    ]
    count = len(state.pruned)
    repeated, behind = windows.repeat(count, 1), torch.cat(state.pruned)
    found = []
    for place, logits in enumerate(logits_of(state.network, repeated, behind)):
        target = dense[place % len(dense)]
        pruned = torch.log_softmax(logits.float(), dim=-1)
        each = torch.nn.functional.kl_div(pruned, target, log_target=True, reduction="batchmean")
        found.append(max(float(each), 0.0))
    table = torch.tensor(found, dtype=torch.float64).reshape(-1, len(OWN_DENSITIES), len(dense))
    return table.mean(dim=2)
