"""Named tensors of a method in a `state_dict`: saved under `PART.NAME`, loaded all or none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ws_learner.core import UserError

__all__ = ["copy_parts", "copy_tensors", "load_parts", "take_part"]

Parts = Mapping[str, Mapping[str, Tensor]]
"""Part, such as `mask` -> parameter name -> tensor."""


def copy_parts(parts: Parts) -> dict[str, Tensor]:
    """Copies of all tensors, under `PART.NAME`."""
    return {key: tensor.clone() for key, tensor in _flat(parts).items()}


def load_parts(parts: Parts, state: Mapping[str, Tensor]) -> None:
    """Take over in place what `copy_parts` gave.

    Raises:
        UserError: Names or shapes are not those of these tensors; nothing is changed.
    """
    copy_tensors(_flat(parts), state, what="masks belong to another network or target")


@torch.no_grad()
def copy_tensors(into: Mapping[str, Tensor], state: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors of the same names and shapes.

    Raises:
        UserError: Names or shapes differ; the message is `the saved {what}` and the first of them.
    """
    wrong = set(into) ^ set(state)
    wrong |= {key for key in set(into) & set(state) if into[key].shape != state[key].shape}
    if wrong:
        raise UserError(f"the saved {what}: {min(wrong)}")
    for key, tensor in into.items():
        tensor.copy_(state[key])


def take_part(
    state: Mapping[str, Tensor], part: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors under `PART.`, without that prefix, and all others."""
    prefix = f"{part}."
    taken = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return taken, {k: v for k, v in state.items() if not k.startswith(prefix)}


def _flat(parts: Parts) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
