"""The layer table of a causal language model: the linear layers of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs import LayerRow
from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork, linear_layers
from ws_learner.pruning import weight_roles

__all__ = ["BlockLayer", "block_layers", "layer_rows"]


@dataclass(frozen=True, kw_only=True)
class BlockLayer:
    """A linear layer of a block.

    Attributes:
        key: Name of its weight in the folder's files.
        block: Number of its block, from 0.
        name: Name of the layer in the block, such as `mlp.down_proj`.
        inputs_first: Whether the weight is (inputs, outputs), as in GPT-2.
        row: Its row of the layer table; multiply-accumulates are those of one token.
    """

    key: str
    block: int
    name: str
    inputs_first: bool
    row: LayerRow

    @property
    def matrix(self) -> tuple[int, int]:
        """Outputs and inputs."""
        first, second = self.row.shape
        return (second, first) if self.inputs_first else (first, second)


def block_layers(network: BlockNetwork) -> tuple[BlockLayer, ...]:
    """All layers, in the order of the blocks.

    Raises:
        UserError: A weight belongs to two layers.
    """
    roles = weight_roles(network.model)
    found, known = list[BlockLayer](), set[str]()
    for number, block in enumerate(network.blocks):
        for name, module in linear_layers(block).items():
            full = f"{network.block_name(number)}.{name}.weight"
            key = network.key(full)
            if key in known:
                raise UserError(f"`model`: {full} is shared with another layer; not supported")
            known.add(key)
            shape = network.tensors.shapes[key]
            inputs_first = type(module).__name__ == "Conv1D"
            own = roles.get(full, ("other",))
            row = LayerRow(
                name=key,
                kind="linear_io" if inputs_first else "linear",
                role=own[0] if len(set(own)) == 1 else "".join(own),
                shape=shape,
                weights=shape[0] * shape[1],
                macs=shape[0] * shape[1],
                fan=(shape[1], shape[0]) if inputs_first else None,
            )
            found.append(
                BlockLayer(key=key, block=number, name=name, inputs_first=inputs_first, row=row)
            )
    return tuple(found)


def layer_rows(layers: Sequence[BlockLayer]) -> tuple[LayerRow, ...]:
    """The layer table."""
    return tuple(layer.row for layer in layers)
