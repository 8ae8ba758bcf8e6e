"""Stratified random splits: every part holds the classes in proportion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["stratified_parts"]

Indices = npt.NDArray[np.int64]


def stratified_parts(labels: Indices, *, sizes: Sequence[int], seed: int) -> list[Indices]:
    """Draw disjoint parts of the given sizes; the rest is the last part.

    A part holds the classes in the proportions of the whole set, up to one image, and at least one
    image of every class if it is large enough. Rare classes supply the last part first, then the
    earlier ones; a part is smaller than requested if classes run out.

    Args:
        labels: (N,), 0 <= label.
        sizes: Number of images in every part but the last.
        seed: Seed of the draw.

    Returns:
        len(sizes) + 1 arrays of positions, together 0..N-1; each in random order.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x5711,)))
    order = rng.permutation(len(labels))
    # Position of each image within its class, in the drawn order.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)

    parts: list[Indices] = []
    taken = np.zeros_like(counts)
    for number, size in enumerate(sizes):
        later = len(sizes) - number  # remaining parts, with one image reserved for each
        quota = _quota(counts - taken - later, size)
        first, last = taken[labels], (taken + quota)[labels]
        chosen = (rank >= first) & (rank < last)
        parts.append(order[chosen[order]])
        taken = taken + quota
    parts.append(order[(rank >= taken[labels])[order]])
    return parts


def _quota(room: Indices, size: int) -> Indices:
    """Images to take of every class: at least one, the rest in proportion by largest remainder."""
    room = np.maximum(room, 0)
    size = min(size, int(room.sum()))
    quota = np.minimum(room, 1) if size >= np.count_nonzero(room) else np.zeros_like(room)
    rest, space = size - int(quota.sum()), room - quota
    if rest <= 0:
        return quota
    # Integer arithmetic: a float share could exceed the size of a class.
    share, remainder = np.divmod(rest * space, int(space.sum()))
    quota = quota + share
    missing = size - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return quota
