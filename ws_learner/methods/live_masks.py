"""Latent weights, and masks that are made anew from them at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ws_learner.errors import UserError
from ws_learner.sparsity.nm import NM

__all__ = ["LiveMasks", "Piece"]


@dataclass(frozen=True)
class Piece:
    """Some outputs of a weight that are pruned by one N:M pattern.

    Attributes:
        name: Of the parameter.
        rows: Which outputs.
        target: The pattern at the end.
    """

    name: str
    rows: slice
    target: NM


class LiveMasks:
    """Between two optimizer steps the parameters hold masked weights, the buffers latent ones.

    So the forward pass is the ordinary one, whatever calls the weights; a gradient by the masked
    weight arrives for pruned ones too, which is the straight-through estimator; and names,
    classes and state_dict keys never change. During the optimizer's step the parameters hold the
    latent weights, so that decay and momentum act on these.

    Costs two numbers and a byte for each weight: latent value, mask as a number, mask.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], pieces: Sequence[Piece]) -> None:
        """Start with every weight kept."""
        self.weights, self.pieces = dict(weights), tuple(pieces)
        self._order = list(self.weights)
        self.masks = {
            name: torch.ones_like(w, dtype=torch.bool, requires_grad=False)
            for name, w in self.weights.items()
        }
        self.latent = {name: w.detach().clone() for name, w in self.weights.items()}
        self.keep = {name: torch.ones_like(w) for name, w in self.latent.items()}
        self.soft = 1.0
        self._batches: dict[tuple[NM, ...], list[tuple[NM, list[int]]]] = {}

    def to_device(self) -> None:
        """Follow the weights to the device, precision and memory layout they have now."""
        for name, weight in self.weights.items():
            self.masks[name] = torch.empty_like(weight, dtype=torch.bool).copy_(self.masks[name])
            self.latent[name] = torch.empty_like(weight.detach()).copy_(self.latent[name])
            self.keep[name] = torch.empty_like(weight.detach()).copy_(self.masks[name])
        self._batches = {}

    def _listed(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return [tensors[name] for name in self._order]

    @torch.no_grad()
    def remember(self) -> None:
        """Take the parameters' values for the latent ones."""
        torch._foreach_copy_(self._listed(self.latent), self._listed(self.weights))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the latent values into the parameters."""
        torch._foreach_copy_(self._listed(self.weights), self._listed(self.latent))

    @torch.no_grad()
    def renew(self, patterns: Sequence[NM]) -> None:
        """Make the masks from the latent values.

        Args:
            patterns: For each piece. Pieces with the same pattern and row length are computed
                together, whichever layers they are of.
        """
        for pattern, numbers in self._batched(tuple(patterns)):
            pieces = [self.pieces[number] for number in numbers]
            parts = [self._rows(self.latent, piece, pattern) for piece in pieces]
            values = torch.cat(parts) if len(parts) > 1 else parts[0]
            kept = NM(pattern.n, pattern.m).whole_mask(values.abs())
            rows = torch.split(kept, [len(part) for part in parts])
            for piece, mask in zip(pieces, rows, strict=True):
                self._rows(self.masks, piece, pattern).copy_(mask)
                self._rows(self.keep, piece, pattern).copy_(mask)

    @torch.no_grad()
    def keep_all(self) -> None:
        """No weight is pruned."""
        for name in self._order:
            self.masks[name].fill_(True)
            self.keep[name].fill_(1)

    @torch.no_grad()
    def apply(self, soft: float) -> None:
        """Write latent x (mask + soft x (1 - mask)) into the parameters; soft in [0, 1]."""
        self.soft = soft
        weights, latent = self._listed(self.weights), self._listed(self.latent)
        torch._foreach_copy_(weights, latent)
        if soft == 0:
            torch._foreach_mul_(weights, self._listed(self.keep))
        elif soft < 1:
            torch._foreach_mul_(weights, soft)
            torch._foreach_lerp_(weights, latent, self._listed(self.keep))  # exact at 0 and 1

    @torch.no_grad()
    def scale_pruned(self, tensors: Mapping[str, Tensor], factor: Mapping[str, float]) -> None:
        """Multiply the pruned entries by a factor of their tensor, the kept ones by 1."""
        for name, tensor in tensors.items():
            if factor[name] != 1:
                tensor.mul_(self.keep[name].mul(1 - factor[name]).add_(factor[name]))

    def _batched(self, patterns: tuple[NM, ...]) -> list[tuple[NM, list[int]]]:
        """Numbers of the pieces that can be computed as one tensor."""
        if patterns not in self._batches:
            alike: dict[tuple[object, ...], list[int]] = {}
            for number, (piece, pattern) in enumerate(zip(self.pieces, patterns, strict=True)):
                example = self._rows(self.latent, piece, pattern)
                key = (pattern, example.shape[1:], example.dtype, example.device)
                alike.setdefault(key, []).append(number)
            self._batches[patterns] = [(patterns[found[0]], found) for found in alike.values()]
        return self._batches[patterns]

    def _rows(self, tensors: Mapping[str, Tensor], piece: Piece, pattern: NM) -> Tensor:
        """The piece's part as rows along which groups run; a view."""
        part = tensors[piece.name][piece.rows]
        return part.T if pattern.columns and part.ndim == 2 else part

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of masks and latent values, under `mask.NAME` and `latent.NAME`."""
        parts = {"mask": self.masks, "latent": self.latent}
        return {
            f"{part}.{name}": tensor.clone()
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of `state_dict`.

        Raises:
            UserError: Names or shapes are not those of these weights; nothing is changed.
        """
        mine = {f"mask.{name}": tensor for name, tensor in self.masks.items()}
        mine |= {f"latent.{name}": tensor for name, tensor in self.latent.items()}
        wrong = set(mine) ^ set(state)
        wrong |= {key for key in set(mine) & set(state) if mine[key].shape != state[key].shape}
        if wrong:
            raise UserError(f"the saved masks are of another network or target: {min(wrong)}")
        for key, tensor in mine.items():
            tensor.copy_(state[key])
        for name in self._order:
            self.keep[name].copy_(self.masks[name])
