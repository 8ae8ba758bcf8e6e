"""A smaller dense network of the same build: without whole blocks, or with narrower MLPs.

All blocks keep one size, so that stock transformers load the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ws_learner.config import SolverName
from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.inner_neurons import find_inner, prune_neurons
from ws_learner.language.removed_blocks import choose_blocks
from ws_learner.language.smaller_folder import tensor_entry, write_folder
from ws_learner.language.windows import Windows

__all__ = ["check_smaller", "narrower", "without_blocks"]


def check_smaller(network: BlockNetwork, *, blocks: int, neurons: float) -> None:
    """Refuse what the network cannot lose.

    Raises:
        UserError: All blocks or all neurons would go, or the MLPs are of another build.
    """
    if blocks >= len(network):
        raise UserError(f"`drop_blocks` {blocks}: the network has {len(network)}; keep at least 1")
    if (
        neurons
        and not 0 < round(neurons * find_inner(network)[0].size) < find_inner(network)[0].size
    ):
        raise UserError(f"`drop_neurons` {neurons}: must leave some neurons, and remove some")


def without_blocks(
    network: BlockNetwork, windows: Windows, count: int, *, state: Path
) -> tuple[BlockNetwork, list[int]]:
    """The network without the blocks that it misses least, and their numbers.

    Args:
        network: The dense network.
        windows: The search windows are read.
        count: Blocks that go.
        state: Folder for the choice and the network.

    Raises:
        UserError: The disk is full.
    """
    removed = choose_blocks(network, windows.search, count, kept=state / "removed.pt")
    folder = state / "fewer_blocks"
    left = [number for number in range(len(network)) if number not in removed]

    def change(config: Any) -> None:
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[number] for number in left]
        config.num_hidden_layers = len(left)

    if not (folder / "model.safetensors").exists():
        numbered = re.compile(rf"(^|\.)({re.escape(network.path.rpartition('.')[2])}\.)(\d+)\.")
        entries = []
        for name in sorted(network.tensors.shapes):
            found = numbered.search(name)
            if found is not None and int(found[3]) in removed:
                continue
            new = name
            if found is not None:
                place = left.index(int(found[3]))
                new = f"{name[: found.start(3)]}{place}{name[found.end(3) :]}"
            entries.append(tensor_entry(network, name, as_name=new))
        write_folder(network, folder, change, entries)
    return BlockNetwork(folder), removed


def narrower(
    network: BlockNetwork, windows: Windows, share: float, *, solver: SolverName, state: Path
) -> tuple[BlockNetwork, int]:
    """The network with the same share of neurons gone from the MLP of every block, and their size.

    The layer that reads the neurons is fitted to those that stay.

    Args:
        network: The dense network.
        windows: The calibration windows are read.
        share: Of the neurons, above 0 and below 1.
        solver: Chooses and fits.
        state: Folder for the walk and the network.

    Raises:
        UserError: The MLPs are of another build, or the disk is full.
    """
    inner = find_inner(network)
    size = inner[0].size - round(share * inner[0].size)
    folder = state / "narrower"
    if not (folder / "model.safetensors").exists():
        pruned, stay = prune_neurons(
            network,
            inner,
            windows.calibration,
            drop=inner[0].size - size,
            solver=solver,
            folder=state / "neurons",
        )
        cuts: dict[str, tuple[Tensor, int, int]] = {}  # key -> neurons that stay, axis, block
        for number, one in enumerate(inner):
            cuts[one.consumer.key] = stay[number], 0 if one.consumer.inputs_first else 1, number
            for layer in one.producers:
                cuts[layer.key] = stay[number], 1 if layer.inputs_first else 0, number
                cuts[layer.key.removesuffix("weight") + "bias"] = stay[number], 0, number

        def cut(name: str) -> Callable[[], Tensor]:
            def read() -> Tensor:
                kept, axis, number = cuts[name]
                changed = pruned.read(number)
                value = changed[name] if name in changed else network.tensors.read(name)
                return value.index_select(axis, kept)

            return read

        entries = [
            tensor_entry(network, name, cut=(cuts[name][1], size, cut(name)))
            if name in cuts
            else tensor_entry(network, name)
            for name in sorted(
                network.tensors.shapes, key=lambda one: (cuts[one][2] if one in cuts else -1, one)
            )
        ]
        write_folder(
            network, folder, lambda config: setattr(config, inner[0].setting, size), entries
        )
    return BlockNetwork(folder), size
