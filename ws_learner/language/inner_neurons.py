"""The inner neurons of a block's MLP: where they are, and which ones stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ws_learner.config import SolverName
from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer, block_layers
from ws_learner.language.walk import PrunedBlocks, WalkPlan, prune_blocks
from ws_learner.pruning import parse_pattern

__all__ = ["Inner", "find_inner", "prune_neurons"]

_SIZES = ("intermediate_size", "ffn_dim", "n_inner")


@dataclass(frozen=True)
class Inner:
    """The MLP of one block.

    Attributes:
        consumer: The layer that reads the neurons.
        producers: Layers whose outputs they are: one, or two where one is a gate.
        size: Number of neurons.
        setting: Name of that number in config.json.
    """

    consumer: BlockLayer
    producers: tuple[BlockLayer, ...]
    size: int
    setting: str


def find_inner(network: BlockNetwork) -> list[Inner]:
    """The MLPs of all blocks.

    The consumer is the one layer of a block that reads as many values as config.json says; the
    producers are those of the same module that make as many.

    Raises:
        UserError: The blocks are not of that build.
    """
    config: Any = network.model.config
    setting = next((name for name in _SIZES if hasattr(config, name)), None)
    layers = block_layers(network)
    found = []
    for number in range(len(network)):
        own = [layer for layer in layers if layer.block == number]
        size = (getattr(config, setting) if setting else None) or 4 * config.hidden_size
        consumers = [one for one in own if one.matrix[1] == size and one.matrix[0] != size]
        producers = [
            one
            for one in own
            if one.matrix[0] == size
            and consumers
            and one.name.rpartition(".")[0] == consumers[0].name.rpartition(".")[0]
        ]
        if setting is None or len(consumers) != 1 or not 1 <= len(producers) <= 2:
            raise UserError(
                "`drop_neurons`: the blocks have no MLP of one or two layers into "
                f"{size} neurons and one out of them; leave it out"
            )
        found.append(Inner(consumers[0], tuple(producers), size, setting))
    return found


def prune_neurons(
    network: BlockNetwork,
    inner: list[Inner],
    windows: Tensor,
    *,
    drop: int,
    solver: SolverName,
    folder: Path,
) -> tuple[PrunedBlocks, list[Tensor]]:
    """Prune columns of the layers that read the neurons, block by block.

    Args:
        network: The dense network.
        inner: Its MLPs.
        windows: (N, T) token numbers for calibration.
        drop: Neurons that go, of every block.
        solver: Chooses them and fits the other columns.
        folder: For the state.

    Returns:
        The consumers' tensors, and for each block the numbers of the neurons that stay.
    """
    layers = block_layers(network)
    consumers = {one.consumer.key for one in inner}
    pruned = prune_blocks(
        network,
        windows,
        WalkPlan(
            layers=layers,
            zeros=[one.matrix[0] * drop if one.key in consumers else 0 for one in layers],
            pattern=parse_pattern("channelx1"),
            solver=solver,
        ),
        folder=folder,
    )
    stay = []
    for number, one in enumerate(inner):
        weight = pruned.read(number)[one.consumer.key].float()
        weight = weight.T if one.consumer.inputs_first else weight
        largest = weight.abs().amax(dim=0).topk(one.size - drop).indices
        stay.append(largest.sort().values)
    return pruned, stay
