"""The walk: blocks are pruned one after another, each on what the pruned blocks before it give.

After each block its tensors and the hidden states behind it are in the state folder, so that a
walk that was stopped goes on at the block where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ws_learner.config import SolverName
from ws_learner.core import UserError, load_state_file, save_state_file, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed, run_block
from ws_learner.language.grams import BlockGrams, collect_block_grams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.memory import return_freed_memory
from ws_learner.pruning import Pattern, solve_layer

__all__ = ["PrunedBlocks", "WalkPlan", "prune_blocks", "run_windows"]


@dataclass(frozen=True, kw_only=True)
class WalkPlan:
    """What is pruned and how.

    Attributes:
        layers: All layers of all blocks.
        zeros: Zeros of each layer, in the same order; 0 leaves it dense.
        pattern: Of every layer.
        solver: Name of the layer solver.
    """

    layers: Sequence[BlockLayer]
    zeros: Sequence[int]
    pattern: Pattern
    solver: SolverName


@dataclass(frozen=True)
class PrunedBlocks:
    """The tensors of pruned blocks on disk.

    Attributes:
        folder: Where they are.
    """

    folder: Path
    _known: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    def path(self, number: int) -> Path:
        """File of a block."""
        return self.folder / f"block_{number:04d}.pt"

    def hidden(self, number: int) -> Path:
        """File of the hidden states that a block gets."""
        return self.folder / f"hidden_{number:04d}.pt"

    def read(self, number: int) -> dict[str, Tensor]:
        """Changed tensors of a block by the folder's names.

        Raises:
            UserError: The file is damaged.
        """
        if number not in self._known:
            self._known.clear()  # one block in memory
            self._known[number] = load_state_file(self.path(number))
        return self._known[number]

    def done(self, count: int) -> int:
        """Number of blocks that are finished, with the hidden states behind them."""
        for number in range(count, 0, -1):
            behind = number == count or self.hidden(number).exists()
            if behind and all(self.path(one).exists() for one in range(number)):
                return number
        return 0


def prune_blocks(
    network: BlockNetwork, windows: Tensor, plan: WalkPlan, *, folder: Path
) -> PrunedBlocks:
    """Prune all blocks, or those that an earlier call has not.

    Args:
        network: The dense network.
        windows: (N, T) token numbers for calibration.
        plan: What is pruned.
        folder: For the state; nothing else is in it.

    Raises:
        UserError: The disk is full, or a file of the state is damaged.
    """
    pruned, count = PrunedBlocks(folder), len(network)
    folder.mkdir(parents=True, exist_ok=True)
    start = pruned.done(count)
    if start == count:
        return pruned
    hidden, calls = embed(network, windows)
    if start:
        hidden = load_state_file(pruned.hidden(start))["hidden"]
    with track("pruning blocks", total=count, done=start) as progress:
        for number in range(start, count):
            tensors = _prune_block(network, number, hidden, calls[number], plan)
            save_state_file(pruned.path(number), tensors)
            with network.block(number, tensors) as block:
                run_windows(block, hidden, calls[number])
            if number + 1 < count:
                save_state_file(pruned.hidden(number + 1), {"hidden": hidden})
            pruned.hidden(number).unlink(missing_ok=True)
            progress.advance(note=f"block {number + 1} of {count}")
    return pruned


def run_windows(block: nn.Module, hidden: Tensor, call: BlockCall) -> None:
    """Put a block's outputs in the place of its inputs, (N, T, width), window by window."""
    with torch.no_grad():
        for window in torch.split(hidden, 1):
            window.copy_(run_block(block, window, call))


def _prune_block(
    network: BlockNetwork, number: int, hidden: Tensor, call: BlockCall, plan: WalkPlan
) -> dict[str, Tensor]:
    own = [
        (layer, zeros)
        for layer, zeros in zip(plan.layers, plan.zeros, strict=True)
        if layer.block == number and zeros
    ]
    if not own:
        return {}
    with network.block(number) as block:
        grams = collect_block_grams(block, hidden, call)
    return {
        layer.key: pruned_weight(network, layer, zeros, grams, plan)
        for layer, zeros in own
        if layer.name in grams
    }


def pruned_weight(
    network: BlockNetwork, layer: BlockLayer, zeros: int, grams: BlockGrams, plan: WalkPlan
) -> Tensor:
    """A layer's pruned weight as the folder stores it: its layout and number format."""
    return_freed_memory()  # before the factors of a Gram matrix, the most that there is at once
    stored = network.tensors.read(layer.key)
    weight = stored.float()
    weight = weight.T.contiguous() if layer.inputs_first else weight
    solved = solve_layer(
        weight,
        grams[layer.name],
        solver=plan.solver,
        pattern=plan.pattern,
        ratio=zeros / weight.numel(),
    )
    found: Tensor = torch.where(solved.kept, solved.weight.float(), 0.0)
    if not found.isfinite().all():
        raise UserError(f"{layer.key}: pruning gave numbers that are not finite")
    found = found.T if layer.inputs_first else found
    return found.to(stored.dtype).contiguous()


def changed_tensors(pruned: PrunedBlocks | None, number: int) -> Mapping[str, Tensor]:
    """The changed tensors of a block; none of a dense network."""
    return {} if pruned is None else pruned.read(number)
