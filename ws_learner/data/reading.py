"""The order in which a split is read, as a function of the seed, and one way to read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ws_learner.data.splits import Batch

__all__ = ["MemorySplit", "batch_generator", "epoch_order", "generator_for", "reading_order"]

_ORDER, _BATCH = 0, 1  # separate streams of random numbers under one seed


def generator_for(seed: int, *key: int) -> np.random.Generator:
    """A random generator that is a function of `seed` (>= 0) and `key` alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def batch_generator(seed: int, number: int) -> np.random.Generator:
    """What batch `number` of the epoch with this seed draws from."""
    return generator_for(seed, _BATCH, number)


def reading_order(count: int, *, seed: int | None, augment: bool) -> npt.NDArray[np.int64]:
    """Positions 0..count-1 in the order of one epoch; file order without a seed.

    Raises:
        ValueError: Augmentation was asked for without a seed, or the seed is negative.
    """
    if seed is None:
        if augment:
            raise ValueError("augment=True needs a seed: random crops are a function of it")
        return np.arange(count)
    if seed < 0:
        raise ValueError(f"seed = {seed}: give a seed of 0 or more")
    return generator_for(seed, _ORDER).permutation(count)


def epoch_order(
    count: int, batch_size: int, *, seed: int | None, augment: bool, drop_last: bool
) -> npt.NDArray[np.int64]:
    """`reading_order`, without the positions of a smaller last batch if `drop_last`."""
    order = reading_order(count, seed=seed, augment=augment)
    return order[: count - count % batch_size] if drop_last else order


class MemorySplit(ABC):
    """A `Split` whose examples are gathered by position; subclasses say how."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def gather(self, positions: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Stack the examples at `positions`; with `rng`, augmented by what it draws."""

    def arrange(
        self, order: npt.NDArray[np.int64], batch_size: int, *, seed: int
    ) -> npt.NDArray[np.int64]:
        """Reorder an augmented epoch; by default it stays as it is."""
        return order

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Read the split once; see `ws_learner.data.splits.Split`.

        Raises:
            ValueError: `augment` without a seed, or a negative seed.
        """
        order = epoch_order(len(self), batch_size, seed=seed, augment=augment, drop_last=drop_last)
        drawing = seed if augment else None
        if drawing is not None:
            order = self.arrange(order, batch_size, seed=drawing)
        for start in range(skip * batch_size, len(order), batch_size):
            rng = None if drawing is None else batch_generator(drawing, start // batch_size)
            yield self.gather(order[start : start + batch_size], rng)
