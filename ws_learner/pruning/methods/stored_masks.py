"""Masks applied to the stored weights, for methods with an ordinary forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.pruning.methods.foreign_writes import ForeignWrites
from ws_learner.pruning.methods.tensor_state import copy_parts, load_parts
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.wrapped_optimizers import state_of

__all__ = ["StoredMasks"]

_MANY = 1 << 30


class StoredMasks:
    """Weights, their masks, and the value each pruned weight had when it was last kept.

    Costs a byte and two numbers per weight: mask, retained value, and the mask as a number (a
    multiplication by it is much faster than any operation on bools). Above `_MANY` bytes of weights
    on the CPU the last is made for one layer at a time. Layers without a pruned weight take no
    time.

    Attributes:
        moving: What the optimizer does to the zero of a pruned weight is added to its retained
            value: it keeps moving, by the gradient of the masked weight.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Start with every weight kept."""
        self.weights = dict(weights)
        self.masks = {
            name: torch.ones_like(w, dtype=torch.bool, requires_grad=False)
            for name, w in self.weights.items()
        }
        self._retained = {name: w.detach().clone() for name, w in self.weights.items()}
        self._numbers: dict[str, Tensor] = {}  # fresh memory would cost more than the copy
        self._scratch: Tensor | None = None
        self._active: list[tuple[nn.Parameter, Tensor | None]] = []
        self._active_names: list[str] = []
        self._active_retained: list[Tensor] = []
        self._writes = ForeignWrites()
        self.moving = False

    def to_device(self) -> None:
        """Follow the weights to the device, precision and memory layout they have now."""
        self._numbers = {}
        for name, weight in self.weights.items():
            self.masks[name] = torch.empty_like(weight, dtype=torch.bool).copy_(self.masks[name])
            self._retained[name] = torch.empty_like(weight).copy_(self._retained[name])
        self._list_active()

    def follow_weights(self) -> None:
        """`to_device`, if a weight has moved since."""
        if any(
            (w.dtype, w.device, w.stride())
            != ((kept := self._retained[name]).dtype, kept.device, kept.stride())
            for name, w in self.weights.items()
        ):
            self.to_device()

    @torch.no_grad()
    def dense_values(self) -> dict[str, Tensor]:
        """Value of each weight now, or when it was last alive; not to be written to."""
        active = {id(weight) for weight, _ in self._active}
        rest = [name for name, weight in self.weights.items() if id(weight) not in active]
        self._retain()
        if rest:
            retained = [self._retained[name] for name in rest]
            torch._foreach_copy_(retained, [self.weights[name] for name in rest])
        return self._retained

    @torch.no_grad()
    def take_over_writes(self) -> None:
        """Notice what others wrote into pruned weights since the last step, before the next one.

        The weights become zero again, and the values those that they may come back with. Values
        written into kept weights need no care: those are read from the weights.
        """
        for name, (weight, _), retained in zip(
            self._active_names, self._active, self._active_retained, strict=True
        ):
            written = self._writes.find(name, weight, self.masks[name])
            if written is not None:
                torch.where(written, weight, retained, out=retained)
                weight.masked_fill_(written, 0)
        self._writes.tell(wait=False)

    def report_writes(self) -> None:
        """Print which parameters were written to, once each; waits for a GPU."""
        self._writes.tell()

    def values_in_step(self) -> dict[str, Tensor]:
        """An older name of `dense_values()`."""
        return self.dense_values()

    @torch.no_grad()
    def update_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Put new masks on the values of the last `dense_values()`: some weights may come back."""
        for name, mask in masks.items():
            self.masks[name].copy_(mask)  # a copy keeps the weight's memory layout
        self._list_active()
        active = {id(weight) for weight, _ in self._active}
        for batch in self._batches():
            for weight, keep, retained in batch:
                torch.mul(retained, keep, out=weight)
        for name, weight in self.weights.items():
            if id(weight) not in active and name in masks:
                weight.copy_(self._retained[name])
        self._writes.tell()

    def _retain(self) -> None:
        """Write the values of kept weights, and the moves of pruned ones, to the retained."""
        for batch in self._batches():
            weights: list[Tensor] = [weight for weight, _, _ in batch]
            keep = [number for _, number, _ in batch]
            retained = [values for _, _, values in batch]
            if self.moving:
                torch._foreach_addcmul_(retained, retained, keep, value=-1.0)
                torch._foreach_add_(retained, weights)
            else:
                torch._foreach_lerp_(retained, weights, keep)  # exact at 0 and 1

    def _batches(self) -> Iterator[list[tuple[nn.Parameter, Tensor, Tensor]]]:
        """Weights with pruned ones, their masks as numbers, and retained values."""
        whole = []
        size = max((w.numel() for w, number in self._active if number is None), default=0)
        for name, (weight, number), retained in zip(
            self._active_names, self._active, self._active_retained, strict=True
        ):
            if number is not None:
                whole.append((weight, number, retained))
                continue
            if self._scratch is None or self._scratch.dtype != weight.dtype:
                self._scratch = torch.empty(0, dtype=weight.dtype)
            if self._scratch.numel() < size:
                self._scratch = self._scratch.new_empty(size)
            layout = torch.as_strided(self._scratch, weight.shape, weight.stride())
            yield [(weight, layout.copy_(self.masks[name]), retained)]
        if whole:
            yield whole

    def mask_gradients(self, of: Iterable[nn.Parameter] | None = None) -> None:
        """Give pruned weights a gradient of zero, unless they are moving; the step comes next.

        Args:
            of: The weights that are stepped; by default all.
        """
        if self.moving:
            return
        stepped = None if of is None else {id(weight) for weight in of}
        for batch in self._batches():
            found = [
                (w.grad, keep)
                for w, keep, _ in batch
                if w.grad is not None and (stepped is None or id(w) in stepped)
            ]
            if found:
                torch._foreach_mul_([grad for grad, _ in found], [keep for _, keep in found])

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Set pruned weights to zero, whatever an optimizer did to them."""
        if self.moving:
            self._retain()
        for batch in self._batches():
            torch._foreach_mul_([w for w, _, _ in batch], [keep for _, keep, _ in batch])

    @torch.no_grad()
    def mask_state(self, optimizer: Optimizer) -> None:
        """Clear the optimizer state of pruned weights (momentum and the like), unless they move.

        Integers and bools are left: they are codes, or choices of the optimizer.
        """
        if self.moving:
            return
        state = state_of(optimizer)
        for weight, keep, _ in (entry for batch in self._batches() for entry in batch):
            for key, value in state.get(weight, {}).items():
                if key == "step_size":  # Rprop's, which 0 would keep small long after a return
                    continue
                same = isinstance(value, Tensor) and value.shape == weight.shape
                if same and (value.is_floating_point() or value.is_complex()):
                    value.mul_(keep)

    @torch.no_grad()
    def make_zeros(self, *, stacklevel: int) -> None:
        """Pruned weights become plain zeros; kept ones that are zero too are reported."""
        self.take_over_writes()
        self.report_writes()
        for name, weight in self.weights.items():
            pruned = ~self.masks[name]
            weight.masked_fill_(pruned, 0)  # a product of NaN or -0 is no plain zero
            if more := count_zeros(weight) - int(pruned.sum()):
                text = f"{name}: {more} kept weights happen to be 0 as well"
                warnings.warn(text, stacklevel=stacklevel)

    def _parts_of_state(self) -> dict[str, dict[str, Tensor]]:
        return {"mask": self.masks, "retained": self._retained}

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of masks and retained values, under `mask.NAME` and `retained.NAME`."""
        return copy_parts(self._parts_of_state())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of `state_dict`.

        Raises:
            UserError: Names or shapes are not those of these weights; nothing is changed.
        """
        load_parts(self._parts_of_state(), state)
        self._list_active()

    def _number(self, name: str, weight: Tensor) -> Tensor:
        number = self._numbers.get(name)
        if number is None or (number.dtype, number.device) != (weight.dtype, weight.device):
            number = self._numbers[name] = torch.empty_like(weight, requires_grad=False)
        return number.copy_(self.masks[name])

    def _list_active(self) -> None:
        self._active, self._active_names, self._active_retained = [], [], []
        many = _many(self.weights.values())
        dense = _keep_all([self.masks[name] for name in self.weights])
        for (name, weight), every in zip(self.weights.items(), dense, strict=True):
            if every:
                continue
            number = None if many else self._number(name, weight)
            self._active.append((weight, number))
            self._active_names.append(name)
            self._active_retained.append(self._retained[name])


def _many(weights: Iterable[Tensor]) -> bool:
    known = list(weights)
    return sum(w.nbytes for w in known) > _MANY and all(
        w.device.type == "cpu" and _is_dense(w) for w in known
    )


def _is_dense(weight: Tensor) -> bool:
    """Whether the weight's elements are as many as the memory they span."""
    spanned = 1 + sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True))
    return weight.numel() == spanned


def _keep_all(masks: Sequence[Tensor]) -> list[bool]:
    """Which masks prune nothing; one GPU synchronization."""
    if not all(mask.device.type == "cpu" for mask in masks):
        found: list[bool] = torch.stack([mask.all() for mask in masks]).tolist()
        return found
    return [bool(mask.numpy().all()) for mask in masks]  # stops at the first that is pruned
