"""Sentences of word-piece numbers: padding per batch, length bucketing for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import Inputs, UserError
from ws_learner.data.reading import MemorySplit, generator_for
from ws_learner.data.splits import Batch

__all__ = [
    "IGNORED",
    "PAD",
    "TokenSplit",
    "bucketed",
    "by_length",
    "is_tagged",
    "lengths_of",
    "stacked",
    "words_in",
]

PAD = 0
"""Padding number of shorter sentences in a batch, as in BERT."""

IGNORED = -100
"""Target of a padded word, which PyTorch's cross entropy leaves out by default."""

_POOL = 16  # batches whose sentences are sorted by length together
_BATCHES = 3  # key of the random stream that orders batches


def words_in(inputs: Inputs, *, pad_id: int | None) -> Tensor | None:
    """Attention mask (B, T), False at padding.

    Args:
        inputs: A batch. In a dict, `attention_mask` (B, T) says it, else `input_ids`.
        pad_id: `DataSplits.pad_id` of its data.

    Returns:
        None if the data has no padding: every number counts.

    Raises:
        UserError: There is a `pad_id`, but the inputs are not whole numbers (B, T).
    """
    if isinstance(inputs, Mapping):
        mask = inputs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            return mask != 0
        inputs = inputs.get("input_ids", inputs)
    if pad_id is None:
        return None
    if not isinstance(inputs, Tensor):
        raise UserError(
            f"`pad_id` {pad_id}: the inputs are a {type(inputs).__name__} without `input_ids`; "
            "only sentences, whole numbers (batch, words), have padding: leave it out"
        )
    if inputs.dim() != 2 or inputs.is_floating_point():
        raise UserError(
            f"`pad_id` {pad_id}: the inputs are {inputs.dtype} of shape {tuple(inputs.shape)}; "
            "only sentences, whole numbers (batch, words), have padding: leave it out"
        )
    return inputs != pad_id


def stacked(parts: Sequence[Tensor], *, pad_id: int | None) -> Tensor:
    """Concatenate batches of inputs; with a `pad_id`, they are padded to the longest.

    Raises:
        UserError: Without a `pad_id` the batches differ in shape.
    """
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) < 2:
        return torch.cat(list(parts))
    if pad_id is None or any(words_in(part, pad_id=pad_id) is None for part in parts):
        some = " and ".join(str(tuple(shape)) for shape in sorted(shapes)[:2])
        raise UserError(
            f"`pad_id` None: batches of inputs differ in shape ({some}); give the number that pads "
            "sentences as `pad_id` of the data splits, or make all inputs of one shape"
        )
    return _widened(parts, pad_id)


def by_length(batches: Sequence[Batch], *, pad_id: int | None) -> list[Batch]:
    """Rearrange sentences over the same number of batches, sorted by length to reduce padding.

    Targets that are one whole number per word, (B, T) like the inputs, are padded with `IGNORED`
    and cut along. Batches keep the columns whose targets differ beyond the end of a sentence.

    Args:
        batches: Inputs (B, T) and targets; inputs of several tensors stay as they are.
        pad_id: `DataSplits.pad_id`; None returns the batches as they are.
    """
    if pad_id is None or not all(isinstance(part, Tensor) for part, _ in batches):
        return list(batches)
    if not batches:
        return []
    inputs = stacked([part for part, _ in batches], pad_id=pad_id)
    tagged = all(is_tagged(*batch) for batch in batches)
    labels = [part for _, part in batches]
    targets = _widened(labels, IGNORED) if tagged else torch.cat(labels)
    lengths = lengths_of(inputs, pad_id=pad_id)
    cut = []
    for part in lengths.argsort(stable=True).chunk(len(batches)):
        width, here = max(1, int(lengths[part].max())), targets[part]
        if tagged:
            filler = here[:, width:]
            same = len(set(filler[filler != IGNORED].tolist())) < 2
            width = width if same else inputs.shape[1]
            here = here[:, :width]
        cut.append((inputs[part, :width], here))
    return cut


def lengths_of(inputs: Tensor, *, pad_id: int) -> Tensor:
    """(B,) words of each sentence, up to the last that is not padding."""
    words = inputs != pad_id
    places = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
    return (words * places).amax(1)


def is_tagged(inputs: Tensor, targets: Tensor) -> bool:
    """Whether targets are whole numbers, one for each number of the inputs."""
    return targets.shape == inputs.shape and not targets.is_floating_point()


def _widened(parts: Sequence[Tensor], filler: int) -> Tensor:
    longest = max(part.shape[1] for part in parts)
    return torch.cat(
        [
            torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=filler)
            for part in parts
        ]
    )


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

    pad_id = PAD
    """Read by `DataSplits`."""

    def __init__(
        self,
        sentences: Sequence[Sequence[int]],
        labels: npt.NDArray[np.integer] | Sequence[Sequence[int]],
    ) -> None:
        """Store the sentences.

        Args:
            sentences: Word-piece numbers above 0, at least one each.
            labels: (N,) class numbers, or other targets (N, ...); or a list with one list of tags
                per sentence, one for each word piece. Tags are padded with -100.

        Raises:
            ValueError: Lengths differ, or a sentence is empty or contains 0.
        """
        if len(sentences) != len(labels):
            raise ValueError(f"{len(sentences)} sentences but {len(labels)} labels")
        self._sentences = [np.asarray(sentence, dtype=np.int64) for sentence in sentences]
        if not all(len(sentence) and (sentence > PAD).all() for sentence in self._sentences):
            raise ValueError(f"a sentence is empty or contains {PAD}, the padding number")
        self._lengths = np.array([len(sentence) for sentence in self._sentences], dtype=np.int64)
        self._tags: list[npt.NDArray[np.int64]] | None = None
        if isinstance(labels, np.ndarray):
            self._labels = labels.astype(np.int64)
            return
        self._tags = [np.asarray(tags, dtype=np.int64) for tags in labels]
        if [tags.shape for tags in self._tags] != [words.shape for words in self._sentences]:
            raise ValueError("a sentence does not have one label per word piece")

    def __len__(self) -> int:
        return len(self._sentences)

    def arrange(
        self, order: npt.NDArray[np.int64], batch_size: int, *, seed: int
    ) -> npt.NDArray[np.int64]:
        """With `augment`, as in training, sentences of similar length share a batch."""
        return bucketed(order, self._lengths, batch_size=batch_size, seed=seed)

    def gather(self, positions: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Sentences padded to the longest of the batch, and their labels."""
        inputs = self._filled(self._sentences, positions, PAD)
        if self._tags is not None:
            return inputs, self._filled(self._tags, positions, IGNORED)
        return inputs, torch.from_numpy(self._labels[positions])

    def _filled(
        self,
        rows: Sequence[npt.NDArray[np.int64]],
        positions: npt.NDArray[np.int64],
        filler: int,
    ) -> Tensor:
        filled = np.full((len(positions), self._lengths[positions].max()), filler, dtype=np.int64)
        for row, position in enumerate(positions):
            filled[row, : self._lengths[position]] = rows[position]
        return torch.from_numpy(filled)
