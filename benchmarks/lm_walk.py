"""Prune a Llama-type network in memory, block by block; inputs come from the pruned blocks before.

Enough for a comparison of layer solvers. All layers of a block see what the dense layers of the
same block hand them, as in SparseGPT's own code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.pruning import Solved

__all__ = ["PrunedWalk", "block_grams", "nats", "prune_blocks", "windows"]

_BATCH = 4
_READERS = {  # the layer whose input is watched -> layers that read it
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}


@dataclass(frozen=True, kw_only=True)
class PrunedWalk:
    """What a walk cost, in processor seconds.

    Attributes:
        solver_seconds: In the layer solver alone.
        walk_seconds: In all, forward passes and Gram matrices included.
        zeros: Share of zeros of the pruned layers.
    """

    solver_seconds: float
    walk_seconds: float
    zeros: float


def windows(texts: Path, tokenizer: Any, digits: str, *, length: int, count: int) -> Tensor:
    """(count, length) tokens of speeches of years that end in one of the digits.

    Windows do not overlap and come from all of these speeches: a draw with seed 0.
    """
    found = []
    for path in sorted(texts.glob("*.txt")):
        if path.name[3] in digits:
            ids = torch.tensor(tokenizer(path.read_text(encoding="utf-8"))["input_ids"])
            found += list(ids[: len(ids) // length * length].reshape(-1, length))
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return torch.stack([found[index] for index in order[:count].tolist()])


@torch.no_grad()
def nats(model: Any, tokens: Tensor) -> np.typing.NDArray[np.float64]:
    """(windows,) mean negative log-likelihood of a token, given those before it in its window."""
    found = []
    for part in torch.split(tokens, 1):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        each = nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
        found.append(float(each))
    return np.array(found)


@torch.no_grad()
def prune_blocks(
    model: Any, tokens: Tensor, solve: Callable[[Tensor, Tensor], Solved]
) -> PrunedWalk:
    """Prune all linear layers of all blocks in place.

    Args:
        model: A `LlamaForCausalLM` or one of its structure, in evaluation mode.
        tokens: (windows, length) calibration tokens.
        solve: From a layer's weight and the Gram matrix of its inputs.
    """
    start, solving, zeros, total = time.process_time(), 0.0, 0, 0
    states, run = _first_states(model, tokens)
    for block in model.model.layers:
        grams = _grams(block, states, run)
        for watched, readers in _READERS.items():
            for name in readers:
                weight = block.get_submodule(name).weight
                before = time.process_time()
                solved = solve(weight.data, grams[watched])
                solving += time.process_time() - before
                weight.copy_(solved.weight)
                zeros += int((~solved.kept).sum())
                total += weight.numel()
        states = [run(block, state) for state in states]
    return PrunedWalk(
        solver_seconds=solving, walk_seconds=time.process_time() - start, zeros=zeros / total
    )


@torch.no_grad()
def block_grams(model: Any, number: int, tokens: Tensor) -> dict[str, Tensor]:
    """Gram matrices of the inputs of one block's layers in the network as it is.

    Args:
        model: See `prune_blocks`.
        number: The block, from 0.
        tokens: (windows, length) calibration tokens.

    Returns:
        By the first layer that reads an input: `self_attn.q_proj`, `self_attn.o_proj`,
        `mlp.gate_proj` and `mlp.down_proj`.
    """
    states, run = _first_states(model, tokens)
    for block in model.model.layers[:number]:
        states = [run(block, state) for state in states]
    return _grams(model.model.layers[number], states, run)


def _first_states(
    model: Any, tokens: Tensor
) -> tuple[list[Tensor], Callable[[nn.Module, Tensor], Tensor]]:
    """The inputs of the first block, in parts, and how to run a block."""
    states = [model.model.embed_tokens(part) for part in torch.split(tokens, _BATCH)]
    places = torch.arange(tokens.shape[1])[None]
    rotary = model.model.rotary_emb(states[0], position_ids=places)

    def run(block: nn.Module, state: Tensor) -> Tensor:
        out: Tensor | tuple[Tensor] = block(state, position_ids=places, position_embeddings=rotary)
        return out if isinstance(out, Tensor) else out[0]

    return states, run


def _grams(
    block: nn.Module, states: list[Tensor], run: Callable[[nn.Module, Tensor], Tensor]
) -> dict[str, Tensor]:
    grams: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            rows = inputs[0].flatten(0, -2)
            grams[name] = rows.T @ rows + grams.get(name, 0)

        return hook

    hooks = [block.get_submodule(name).register_forward_pre_hook(watch(name)) for name in _READERS]
    for state in states:
        run(block, state)
    for handle in hooks:
        handle.remove()
    return grams
