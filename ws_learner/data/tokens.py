"""Sentences of word-piece numbers: padding per batch, length bucketing for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.data.reading import MemorySplit, generator_for
from ws_learner.data.splits import Batch

__all__ = ["PAD", "TokenSplit", "bucketed", "by_length", "stacked", "words_in"]

PAD = 0
"""Padding number of shorter sentences in a batch, as in BERT."""

_POOL = 16  # batches whose sentences are sorted by length together
_BATCHES = 3  # key of the random stream that orders batches


def words_in(inputs: Tensor) -> Tensor | None:
    """Attention mask (B, T), False at padding; None for inputs other than sentences."""
    if inputs.dim() != 2 or inputs.is_floating_point():
        return None
    return inputs != PAD


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate batches of inputs; sentences are padded to the longest."""
    if not parts or words_in(parts[0]) is None:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat(
        [torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=PAD) for part in parts]
    )


def by_length(batches: Sequence[Batch]) -> list[Batch]:
    """Rearrange examples over the same number of batches, sorted by length to reduce padding."""
    if not batches or words_in(batches[0][0]) is None:
        return list(batches)
    inputs = stacked([part for part, _ in batches])
    targets = torch.cat([part for _, part in batches])
    lengths = (inputs != PAD).sum(1)
    parts = lengths.argsort(stable=True).chunk(len(batches))
    return [(inputs[part, : int(lengths[part].max())], targets[part]) for part in parts]


def bucketed(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], *, batch_size: int, seed: int
) -> npt.NDArray[np.int64]:
    """Reorder an epoch so that each batch holds sentences of similar length.

    Sentences are sorted by length within every 16 batches, then all full batches are shuffled. A
    smaller last batch is unchanged.

    Args:
        order: (N,) positions in random order.
        lengths: Length of every sentence, by position.
        batch_size: Sentences per batch.
        seed: Seed of the order of batches.

    Returns:
        (N,) the same positions, reordered.
    """
    whole = len(order) - len(order) % batch_size
    pool = _POOL * batch_size
    parts = [order[start : min(start + pool, whole)] for start in range(0, whole, pool)]
    ranked = [part[np.argsort(lengths[part], kind="stable")] for part in parts]
    batches = np.concatenate([np.empty(0, dtype=np.int64), *ranked]).reshape(-1, batch_size)
    shuffled = batches[generator_for(seed, _BATCHES).permutation(len(batches))]
    return np.concatenate([shuffled.reshape(-1), order[whole:]])


class TokenSplit(MemorySplit):
    """A `Split` over sentences in memory; inputs are int64 (B, T), T the longest of the batch."""

    def __init__(self, sentences: Sequence[Sequence[int]], labels: npt.NDArray[np.integer]) -> None:
        """Store the sentences.

        Args:
            sentences: Word-piece numbers above 0, at least one each.
            labels: (N,) class numbers, or other targets (N, ...).

        Raises:
            ValueError: Lengths differ, or a sentence is empty or contains 0.
        """
        if len(sentences) != len(labels):
            raise ValueError(f"{len(sentences)} sentences but {len(labels)} labels")
        self._sentences = [np.asarray(sentence, dtype=np.int64) for sentence in sentences]
        if not all(len(sentence) and (sentence > PAD).all() for sentence in self._sentences):
            raise ValueError(f"a sentence is empty or contains {PAD}, the padding number")
        self._labels = labels.astype(np.int64)
        self._lengths = np.array([len(sentence) for sentence in self._sentences], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._labels)

    def arrange(
        self, order: npt.NDArray[np.int64], batch_size: int, *, seed: int
    ) -> npt.NDArray[np.int64]:
        """With `augment`, as in training, sentences of similar length share a batch."""
        return bucketed(order, self._lengths, batch_size=batch_size, seed=seed)

    def gather(self, positions: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Sentences padded to the longest of the batch, and their labels."""
        inputs = np.full((len(positions), self._lengths[positions].max()), PAD, dtype=np.int64)
        for row, position in enumerate(positions):
            inputs[row, : self._lengths[position]] = self._sentences[position]
        return torch.from_numpy(inputs), torch.from_numpy(self._labels[positions])
