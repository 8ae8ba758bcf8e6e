"""A split with a limited number of batches per epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ws_learner.data import Batch, Split

__all__ = ["LimitedSplit"]


class LimitedSplit:
    """LPOT's `iteration`: an epoch ends after so many batches, of other images every time."""

    def __init__(self, split: Split, iteration: int | None, batch_size: int) -> None:
        """Read at most `iteration` batches of `batch_size` from `split`; None: all."""
        self._split, self._iteration, self._batch_size = split, iteration, batch_size

    def __len__(self) -> int:
        if self._iteration is None:
            return len(self._split)
        return min(len(self._split), self._iteration * self._batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Read the split once, as far as it goes; see `ws_learner.data.splits.Split`."""
        batches = self._split.batches(
            batch_size, seed=seed, augment=augment, skip=skip, drop_last=drop_last
        )
        if self._iteration is None:
            return batches
        return islice(batches, max(0, -(-len(self) // batch_size) - skip))
