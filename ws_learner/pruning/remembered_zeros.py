"""Zeros that are set back where something else than an optimizer filled them, such as a merge."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, warn

__all__ = ["RememberedZeros", "remember_zeros"]

_WRAPPERS = {"base_model", "base_layer", "_orig_mod"}
"""Parts of a name that adapters add: peft's `base_model.model.fc.base_layer.weight` is `fc.weight`
once they are merged."""


class RememberedZeros:
    """Where a network's weights are zero, by parameter name; see `remember_zeros`."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        """Keep the masks, True = kept."""
        self.masks = dict(masks)

    @torch.no_grad()
    def restore(self, model: nn.Module) -> dict[str, int]:
        """Set what was zero to zero again, in place, and say how many weights had a value.

        Args:
            model: The network after the merge, on any device; names that adapters add are looked
                through.

        Returns:
            Parameter name -> number of weights that had a value again; only of those that had.

        Raises:
            UserError: A parameter is missing or has another shape; nothing is changed then.
        """
        found = {name: _find(model, name, mask) for name, mask in self.masks.items()}
        filled = {}
        for name, mask in self.masks.items():
            weight = found[name]
            pruned = ~mask.to(weight.device)
            count = int((pruned & (weight != 0)).sum())
            weight.masked_fill_(pruned, 0)
            if count:
                filled[name] = count
        total = sum(int((~mask).sum()) for mask in self.masks.values())
        warn(
            f"zeros: {sum(filled.values())} of {total} pruned weights had a value again, in "
            f"{len(filled)} of {len(self.masks)} layers; they are 0 now"
        )
        return filled


def remember_zeros(model: nn.Module, names: Iterable[str] | None = None) -> RememberedZeros:
    """Remember which weights of a sparse network are zero, before something fills them.

    A LoRA merge adds a dense matrix to the weights, which ends their sparsity without a word.
    Take the zeros before adapters are added or merged, and `restore` them in the merged network.

    Example:
        >>> layer = nn.Linear(4, 4, bias=False)
        >>> with torch.no_grad():
        ...     _ = layer.weight[:2].zero_()
        >>> zeros = remember_zeros(layer)
        >>> with torch.no_grad():
        ...     _ = layer.weight.add_(1.0)  # what a merge does
        >>> zeros.restore(layer), int((layer.weight == 0).sum())
        ({'weight': 8}, 8)

    Args:
        model: The sparse network.
        names: Which parameters; by default all of two or more dimensions that have a zero.

    Raises:
        UserError: The network has no such parameter, or no zeros.
    """
    parameters = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    chosen = list(parameters) if names is None else list(names)
    unknown = [name for name in chosen if name not in every]
    if unknown:
        near = difflib.get_close_matches(unknown[0], every, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise UserError(f"layer {unknown[0]!r}: no such parameter{hint}")
    masks = {
        name: every[name].detach() != 0
        for name in chosen
        if names is not None or (every[name].dim() > 1 and bool((every[name] == 0).any()))
    }
    if not masks:
        raise UserError(
            "`model`: no weight is zero, so there is nothing to remember; prune it first"
        )
    return RememberedZeros(masks)


def _find(model: nn.Module, name: str, mask: Tensor) -> nn.Parameter:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    weight = parameters.get(name)
    if weight is None:
        plain = {_plain(known): value for known, value in parameters.items()}
        weight = plain.get(_plain(name))
    if weight is None or weight.shape != mask.shape:
        is_there = "no such parameter" if weight is None else f"the shape {tuple(weight.shape)}"
        raise UserError(
            f"`model` {type(model).__name__}: {name} was zero in places, of shape "
            f"{tuple(mask.shape)}, and here is {is_there}; give the same network, merged"
        )
    return weight


def _plain(name: str) -> str:
    """A name without what adapters put around a network and its layers."""
    parts = name.split(".")
    if parts[:2] == ["base_model", "model"]:
        parts = parts[2:]
    return ".".join(part for part in parts if part not in _WRAPPERS)
