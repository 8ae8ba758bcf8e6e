"""Causal language models of transformers with one block in memory at a time.

The network is made with parameters that have shapes but no memory. The blocks are the longest
`ModuleList` of modules of one class; everything around them is called the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.language.empty_model import META, empty_model
from ws_learner.language.tensor_folder import TensorFolder
from ws_learner.language.tensor_names import match_names

__all__ = ["BlockNetwork", "find_blocks", "linear_layers"]


class BlockNetwork:
    """A folder's network; at most one block, or the rest, has its weights in memory.

    Attributes:
        folder: The Hugging Face folder.
        tensors: Its tensors.
        model: The network; parameters are on the `meta` device unless they are in use.
        path: Name of the list of blocks in the network, such as `model.layers`.
        blocks: The blocks.
        returns_tuple: Whether a block returns its hidden states in a tuple; known once `embed` was
            called.
    """

    returns_tuple = False

    def __init__(self, folder: Path, *, tensors: TensorFolder | None = None) -> None:
        """Open a folder; no weights are read, nothing is downloaded, no code of the folder runs.

        Args:
            folder: With config.json and safetensors.
            tensors: Weights from elsewhere; the folder then needs none.

        Raises:
            UserError: The folder holds no causal language model, or its tensors do not fit.
        """
        self.folder = folder
        self.model: Any = empty_model(folder)
        self.tensors = tensors or TensorFolder(folder)
        self.path, self.blocks = find_blocks(self.model, source=f"hf:{folder}")
        self._keys = match_names(self.model, self.tensors, source=f"hf:{folder}")

    def __len__(self) -> int:
        return len(self.blocks)

    def key(self, name: str) -> str:
        """The name that the folder's files have for a parameter."""
        return self._keys[name]

    def block_name(self, number: int) -> str:
        """Name of a block in the network."""
        return f"{self.path}.{number}"

    @contextmanager
    def block(
        self, number: int, changed: Mapping[str, Tensor] | None = None
    ) -> Iterator[nn.Module]:
        """A block with its weights in float32.

        Args:
            number: Which one, from 0.
            changed: Tensors by the folder's names that take the place of the folder's.
        """
        block = self.blocks[number]
        with self._filled(block, self.block_name(number), changed or {}):
            yield block

    @contextmanager
    def rest(self) -> Iterator[nn.Module]:
        """The network with the weights of everything but the blocks."""
        with self._filled(self.model, "", {}, skip=f"{self.path}."):
            yield self.model

    @contextmanager
    def _filled(
        self, module: nn.Module, path: str, changed: Mapping[str, Tensor], *, skip: str = " "
    ) -> Iterator[None]:
        filled: list[tuple[nn.Module, str, nn.Parameter]] = []
        shared: dict[int, nn.Parameter] = {}  # tied weights are one parameter, also on meta
        try:
            for place, owner in module.named_modules(remove_duplicate=False):
                for name, empty in list(owner._parameters.items()):
                    full = ".".join(part for part in (path, place, name) if part)
                    if empty is None or full.startswith(skip) or empty.device != META:
                        continue
                    if id(empty) not in shared:
                        shared[id(empty)] = self._parameter(full, changed)
                    owner._parameters[name] = shared[id(empty)]
                    filled.append((owner, name, empty))
            yield
        finally:
            for owner, name, empty in filled:
                owner._parameters[name] = empty

    def _parameter(self, name: str, changed: Mapping[str, Tensor]) -> nn.Parameter:
        key = self.key(name)
        value = changed[key] if key in changed else self.tensors.read(key)
        return nn.Parameter(value.float(), requires_grad=False)


def find_blocks(model: nn.Module, *, source: str) -> tuple[str, nn.ModuleList]:
    """Name and modules of the longest `ModuleList` of one class with linear layers.

    Raises:
        UserError: There is none.
    """
    best: tuple[str, nn.ModuleList] | None = None
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len({type(one) for one in module}) != 1:
            continue
        if linear_layers(module[0]) and (best is None or len(module) > len(best[1])):
            best = name, module
    if best is None:
        raise UserError(
            f"`model` {source}: {type(model).__name__} has no list of blocks of one class; only "
            "such networks are pruned block by block"
        )
    return best


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """Linear layers by name, with transformers' `Conv1D`, which stores inputs first."""
    return {
        name: module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
