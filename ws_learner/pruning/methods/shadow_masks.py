"""Shadow weights, and masks recomputed from them at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ws_learner.pruning.methods.foreign_writes import ForeignWrites
from ws_learner.pruning.methods.tensor_state import copy_parts, load_parts
from ws_learner.pruning.patterns.nm import NM

__all__ = ["Piece", "ShadowMasks"]


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


@dataclass(frozen=True)
class _Batch:
    """Pieces with one pattern; `runs` says where they lie in the common memory, if they do."""

    pattern: NM
    pieces: tuple[Piece, ...]
    runs: tuple[slice, ...]

    @property
    def rows_of(self) -> NM:
        """The pattern along rows."""
        return NM(self.pattern.n, self.pattern.m)


def _alike(weights: Sequence[Tensor]) -> bool:
    """Whether they can share memory: matrices, row after row, of one precision and device."""
    kinds = {(w.dtype, w.device, w.ndim, w.is_contiguous()) for w in weights}
    return len(kinds) == 1 and next(iter(kinds))[2:] == (2, True)


class ShadowMasks:
    """Between two optimizer steps parameters hold masked weights, buffers shadow weights.

    So the forward pass is the ordinary one, whatever calls the weights; a gradient by the masked
    weight arrives for pruned ones too, which is the straight-through estimator; and names,
    classes and state_dict keys never change. During the optimizer's step the parameters hold the
    latent weights, so that decay and momentum act on these.

    Costs two numbers and a byte for each weight: latent value, mask as a number, mask.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], pieces: Sequence[Piece]) -> None:
        """Start with every weight kept."""
        self.weights, self.pieces = dict(weights), tuple(pieces)
        self._order, self.writes = list(self.weights), ForeignWrites()
        self._allocate()
        self.remember()
        self.keep_all()
        self.soft = 1.0

    def _allocate(self) -> None:
        """Make room on the weights' device, in their precision and memory layout."""
        self._together = _alike(list(self.weights.values()))
        self._shadow_flat, self.shadow = self._room(None)
        self._masks, self.masks = self._room(torch.bool)
        self._keep, self.keep = self._room(None)
        self._batches: dict[tuple[NM, ...], list[_Batch]] = {}

    def _room(self, dtype: torch.dtype | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Allocate one more tensor per weight, in one contiguous buffer if the weights are alike.

        So masks of all layers are computed as one tensor, which on a GPU is a few launches.
        """
        if not self._together:
            each = {n: torch.empty_like(w.detach(), dtype=dtype) for n, w in self.weights.items()}
            return torch.empty(0), each
        sizes = [weight.numel() for weight in self.weights.values()]
        first = self.weights[self._order[0]]
        whole = torch.empty(sum(sizes), dtype=dtype or first.dtype, device=first.device)
        parts = zip(self.weights.items(), torch.split(whole, sizes), strict=True)
        return whole, {name: part.view(weight.shape) for (name, weight), part in parts}

    @torch.no_grad()
    def to_device(self) -> None:
        """Follow the weights to the device, precision and memory layout they have now."""
        masks, shadow = self.masks, self.shadow
        self._allocate()
        for name in self._order:
            self.masks[name].copy_(masks[name])
            self.shadow[name].copy_(shadow[name])
            self.keep[name].copy_(masks[name])

    def _listed(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return [tensors[name] for name in self._order]

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the parameters into the shadow weights."""
        torch._foreach_copy_(self._listed(self.shadow), self._listed(self.weights))

    @torch.no_grad()
    def take_over_writes(self) -> None:
        """Copy into the shadow weights what others wrote into the parameters since `apply`.

        A kept weight's value counts as it is. A pruned one's counts if it is neither zero nor
        what `apply` had written.
        """
        if self.soft == 1:
            self.remember()
            return
        for name in self._order:
            weight, shadow, mask = self.weights[name], self.shadow[name], self.masks[name]
            expected = None
            if self.soft:  # by the very operation of `apply`: others round 16-bit types elsewhere
                expected = shadow.clone()
                torch._foreach_mul_([expected], self.soft)
            written = self.writes.find(name, weight, mask, expected)
            if written is not None:
                torch.where(written, weight, shadow, out=shadow)
        self.writes.tell(wait=False)
        shadows, weights = self._listed(self.shadow), self._listed(self.weights)
        torch._foreach_lerp_(shadows, weights, self._listed(self.keep))  # exact at 0 and 1

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the shadow weights into the parameters."""
        torch._foreach_copy_(self._listed(self.weights), self._listed(self.shadow))

    @torch.no_grad()
    def update_masks(self, patterns: Sequence[NM]) -> None:
        """Compute the masks from the shadow weights.

        Args:
            patterns: For each piece. Pieces with the same pattern are computed together,
                whichever layers they are of; the lengths of their rows must be equal only where
                M does not divide them.
        """
        for batch in self._batched(tuple(patterns)):
            shadow, masks, keep = self._parts(batch)
            values = torch.cat(shadow) if len(shadow) > 1 else shadow[0]
            kept = batch.rows_of.whole_mask(values.abs())
            for mask, number, new in zip(
                masks, keep, torch.split(kept, [len(part) for part in shadow]), strict=True
            ):
                mask.copy_(new)
                number.copy_(new)

    def _parts(self, batch: _Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Latent values, masks and masks as numbers of a batch, as rows along which groups run."""
        if batch.runs:
            whole, m = (self._shadow_flat, self._masks, self._keep), batch.pattern.m
            shadow, masks, keep = ([t[run].view(-1, m) for run in batch.runs] for t in whole)
            return shadow, masks, keep
        tensors = (self.shadow, self.masks, self.keep)
        shadow, masks, keep = (
            [self._rows(named, piece, batch.pattern) for piece in batch.pieces] for named in tensors
        )
        return shadow, masks, keep

    @torch.no_grad()
    def keep_all(self) -> None:
        """No weight is pruned."""
        for name in self._order:
            self.masks[name].fill_(True)
            self.keep[name].fill_(1)

    @torch.no_grad()
    def apply(self, soft: float) -> None:
        """Turn parameters w, the latent values, into w (mask + soft (1 - mask)); soft in [0, 1]."""
        self.soft = soft
        weights, shadow = self._listed(self.weights), self._listed(self.shadow)
        if soft == 0:
            torch._foreach_mul_(weights, self._listed(self.keep))
        elif soft < 1:
            torch._foreach_mul_(weights, soft)
            torch._foreach_lerp_(weights, shadow, self._listed(self.keep))  # exact at 0 and 1

    @torch.no_grad()
    def scale_pruned(self, tensors: Mapping[str, Tensor], factor: Mapping[str, float]) -> None:
        """Multiply the pruned entries by a factor of their tensor, the kept ones by 1."""
        names = [name for name in tensors if factor[name] != 1]
        if not names:
            return
        scale = torch._foreach_mul([self.keep[n] for n in names], [1 - factor[n] for n in names])
        torch._foreach_add_(scale, [factor[n] for n in names])
        torch._foreach_mul_([tensors[n] for n in names], scale)

    def _batched(self, patterns: tuple[NM, ...]) -> list[_Batch]:
        """Pieces that can be computed as one tensor."""
        if patterns not in self._batches:
            alike: dict[tuple[object, ...], list[Piece]] = {}
            pattern_of: dict[tuple[object, ...], NM] = {}
            for piece, pattern in zip(self.pieces, patterns, strict=True):
                shape = self._rows(self.shadow, piece, pattern).shape[1:]
                own = self.weights[piece.name]
                whole = self._together and not pattern.columns and shape[0] % pattern.m == 0
                key = (pattern, None if whole else shape, own.dtype, own.device)
                alike.setdefault(key, []).append(piece)
                pattern_of[key] = pattern
            self._batches[patterns] = [
                _Batch(pattern_of[key], tuple(found), () if key[1] else self._runs(found))
                for key, found in alike.items()
            ]
        return self._batches[patterns]

    def _runs(self, pieces: Sequence[Piece]) -> tuple[slice, ...]:
        """Where the pieces lie in the common memory; neighbours are joined."""
        runs: list[slice] = []
        starts = sorted(
            ((self.shadow[p.name][p.rows].storage_offset(), p) for p in pieces),
            key=lambda at: at[0],
        )
        for start, piece in starts:
            stop = start + self.shadow[piece.name][piece.rows].numel()
            if runs and runs[-1].stop == start:
                runs[-1] = slice(runs[-1].start, stop)
            else:
                runs.append(slice(start, stop))
        return tuple(runs)

    def _rows(self, tensors: Mapping[str, Tensor], piece: Piece, pattern: NM) -> Tensor:
        """The piece's part as rows along which groups run; a view."""
        part = tensors[piece.name][piece.rows]
        return part.T if pattern.columns and part.ndim == 2 else part

    def _parts_of_state(self) -> dict[str, dict[str, Tensor]]:
        return {"mask": self.masks, "latent": self.shadow}

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of masks and latent values, under `mask.NAME` and `latent.NAME`."""
        return copy_parts(self._parts_of_state())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of `state_dict`.

        Raises:
            UserError: Names or shapes are not those of these weights; nothing is changed.
        """
        load_parts(self._parts_of_state(), state)
        for name in self._order:
            self.keep[name].copy_(self.masks[name])
