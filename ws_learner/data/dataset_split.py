"""Split over a map-style data set of (input, target) pairs, with optional worker processes."""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_all_start_methods
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, default_collate

from ws_learner.core import UserError, rank_slice
from ws_learner.data.reading import epoch_order, generator_for
from ws_learner.data.splits import Batch
from ws_learner.data.structure import as_batch
from ws_learner.data.tokens import IGNORED, is_tagged

__all__ = ["Collate", "DatasetSplit", "Examples"]

Collate = Callable[[list[Any]], Any]
"""Makes a batch from a list of examples."""

_EXAMPLE = 2  # key of the random stream of one example
_WEIGHTED = 4  # of the examples of an epoch drawn by weight


class Examples(Protocol):
    """A map-style data set, such as a `torch.utils.data.Dataset` with a length."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> Any:
        """One example, see `DatasetSplit`."""


class DatasetSplit:
    """Split over a map-style data set.

    An example is a pair (input, target); several inputs, (first, second, ..., target); or a dict,
    whose target has the key `labels`, `label`, `targets` or `target`. An input of a pair may be a
    tuple or a dict of tensors. Examples without target are a tensor, a tuple of one, or a dict
    without such a key.

    Before every example the global random generators of PyTorch (CPU), NumPy and Python are seeded
    from the seed and the example's position in the epoch. A data set may therefore draw from them,
    and its examples depend neither on `skip` nor on the number of workers.

    Example:
        >>> images, labels = torch.zeros(8, 3, 4, 4), torch.arange(8)
        >>> split = DatasetSplit(torch.utils.data.TensorDataset(images, labels))
        >>> [targets.tolist() for _, targets in split.batches(5)]
        [[0, 1, 2, 3, 4], [5, 6, 7]]
    """

    def __init__(
        self,
        dataset: Examples,
        *,
        augmented: Examples | None = None,
        workers: int = 0,
        pad_id: int | None = None,
        collate_fn: Collate | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Store the data sets.

        Args:
            dataset: Examples without augmentation, for scoring.
            augmented: The same examples with augmentation, read for `augment=True`; None reads
                `dataset` instead.
            workers: Processes that prefetch batches; 0 reads in this process. With workers the
                data sets must be picklable where processes are not forked.
            pad_id: Inputs are sentences, whole numbers (T,) of any length, and are padded with
                this number to the longest of a batch; targets of one whole number per word are
                padded with -100. None: all examples are of one shape.
            collate_fn: Makes a batch from a list of examples, as `DataLoader` takes it, such as
                transformers' `DataCollatorWithPadding`; it may return whatever an example may be.
                Padding is known by `attention_mask`. None stacks examples.
            weights: (N,) How often an epoch with `augment`, as in training, draws each example
                relative to the others, with repetition; None reads each once.

        Raises:
            UserError: `workers` is negative, there are both `pad_id` and `collate_fn`, the
                weights are not usable, or workers need a `collate_fn` that cannot be pickled.
            ValueError: The data sets differ in length.
        """
        if workers < 0:
            raise UserError(f"workers = {workers}: must be 0 or more")
        if collate_fn is not None and pad_id is not None:
            raise UserError(
                f"`pad_id` {pad_id}: `collate_fn` pads sentences; leave out one of them"
            )
        if collate_fn is not None and workers and _start_method() != "fork":
            _check_portable(collate_fn)
        if augmented is not None and len(augmented) != len(dataset):
            raise ValueError(f"{len(dataset)} examples but {len(augmented)} augmented ones")
        self._dataset = dataset
        self._augmented = dataset if augmented is None else augmented
        self._workers, self.pad_id, self._collate = workers, pad_id, collate_fn
        self._shares = None if weights is None else _shares(weights, len(dataset))

    def __len__(self) -> int:
        return len(self._dataset)

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
            UserError: An example cannot be read, or examples of a batch differ in shape.
            ValueError: `augment` without a seed, or a negative seed.
        """
        return self.rank_batches(
            batch_size, (0, 1), seed=seed, augment=augment, skip=skip, drop_last=drop_last
        )

    def rank_batches(
        self,
        batch_size: int,
        part: tuple[int, int],
        *,
        seed: int | None,
        augment: bool,
        skip: int,
        drop_last: bool,
    ) -> Iterator[Batch]:
        """The rows of each of the `batches` that belong to one rank; others are not prepared.

        Args:
            batch_size: See `batches`, as for what follows `part`.
            part: (rank, number of ranks).
            seed: Of order and augmentation.
            augment: Read the augmented examples.
            skip: Batches to leave out.
            drop_last: Leave out a smaller last batch.

        Raises:
            UserError: An example cannot be read, or examples do not fit into one batch.
            ValueError: `augment` without a seed, or a negative seed.
        """
        order = epoch_order(len(self), batch_size, seed=seed, augment=augment, drop_last=drop_last)
        if augment and seed is not None and self._shares is not None:
            draw = generator_for(seed, _WEIGHTED)
            order = draw.choice(len(self), size=len(order), p=self._shares)
        source = _Batches(
            self._augmented if augment else self._dataset,
            order,
            batch_size=batch_size,
            seed=0 if seed is None else seed,
            part=part,
            pad_id=self.pad_id,
            collate=self._collate,
        )
        numbers = range(skip, len(source))
        for batch in source.read(numbers, workers=min(self._workers, len(numbers))):
            if isinstance(batch, UserError):
                raise batch
            yield batch


class _Batches(Dataset[Batch | UserError]):
    """Batches of one epoch, addressed by number."""

    def __init__(
        self,
        examples: Examples,
        order: npt.NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        part: tuple[int, int],
        pad_id: int | None,
        collate: Collate | None,
    ) -> None:
        self._examples, self._order, self._pad_id = examples, order, pad_id
        self._collate = collate
        self._batch_size, self._seed, self._part = batch_size, seed, part

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def read(self, numbers: range, *, workers: int) -> Iterator[Batch | UserError]:
        if workers == 0:
            for number in numbers:
                yield self[number]
            return
        # A separate generator: the loader would draw from the global one.
        yield from DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            generator=torch.Generator().manual_seed(self._seed % 2**63),
        )

    def __getitem__(self, number: int) -> Batch | UserError:
        start = number * self._batch_size
        places = range(start, min(start + self._batch_size, len(self._order)))
        rank, size = self._part
        places = places[rank_slice(len(places), rank=rank, size=size)]
        try:
            with _own_randomness():
                examples = [self._example(place) for place in places]
                if self._collate is not None:
                    return as_batch(_collated(examples, self._collate))
                return _stack(examples if self._pad_id is None else _even(examples, self._pad_id))
        except UserError as error:
            return error  # returned: raised in a worker it would become a traceback

    def _example(self, place: int) -> Any:
        _seed_everything(self._seed, place)
        return self._examples[int(self._order[place])]


def _start_method() -> str:
    return multiprocessing.get_start_method(allow_none=True) or get_all_start_methods()[0]


def _check_portable(collate: Collate) -> None:
    try:
        pickle.dumps(collate)
    except Exception as error:  # each library raises its own
        raise UserError(
            f"`collate_fn` {getattr(collate, '__qualname__', collate)}: cannot be sent to the "
            f"`workers` ({error}); define it at the top of a module, or give workers=0"
        ) from error


def _collated(examples: list[Any], collate: Collate) -> Any:
    try:
        return collate(examples)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"`collate_fn`: fails on {len(examples)} examples, {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'without a message'}"
        ) from error


def _shares(weights: Sequence[float], count: int) -> npt.NDArray[np.float64]:
    """(N,) probabilities."""
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (count,) or not (np.isfinite(found).all() and (found >= 0).all()):
        raise UserError(f"`weights`: must be {count} numbers of 0 or above, one for each example")
    if found.sum() <= 0:
        raise UserError("`weights`: all are 0, so no example would be drawn")
    shares: npt.NDArray[np.float64] = found / found.sum()
    return shares


def _stack(examples: list[Any]) -> Batch:
    try:
        return as_batch(default_collate([_numbered(example) for example in examples]))
    except (TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the data set's examples cannot be stacked into a batch ({reason}); "
            "make each a pair (input, target) of tensors, arrays or numbers of equal shape, "
            "give the number that pads sentences as `pad_id`, or `collate_fn`, as of a DataLoader"
        ) from error


def _numbered(example: Any) -> Any:
    """An example whose dicts hold tensors instead of lists of numbers, and no None."""
    if isinstance(example, Mapping):
        given = {key: part for key, part in example.items() if part is not None}
        return {
            key: torch.as_tensor(part) if _is_numbers(part) else part for key, part in given.items()
        }
    if isinstance(example, tuple) and not hasattr(example, "_fields"):
        return tuple(map(_numbered, example))
    return example


def _is_numbers(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float)


def _even(examples: list[Any], pad_id: int) -> list[tuple[Any, Any]]:
    """Pad sentences, and targets of one whole number per word, to the longest."""
    if not all(isinstance(example, list | tuple) and len(example) == 2 for example in examples):
        raise UserError(
            f"`pad_id` {pad_id}: examples are no pairs (sentence, target); give `collate_fn` "
            "instead, such as transformers' DataCollatorWithPadding"
        )
    words = [torch.as_tensor(sentence) for sentence, _ in examples]
    odd = [x for x in words if x.dim() != 1 or x.is_floating_point()]
    if odd:
        raise UserError(
            f"`pad_id` {pad_id}: an input is {odd[0].dtype} of shape {tuple(odd[0].shape)}; only "
            "sentences, whole numbers (words,), have padding: leave it out"
        )
    targets = [target for _, target in examples]
    tags = [torch.as_tensor(target) for target in targets]
    if all(is_tagged(*pair) for pair in zip(words, tags, strict=True)):
        targets = list(pad_sequence(tags, batch_first=True, padding_value=IGNORED))
    padded = list(pad_sequence(words, batch_first=True, padding_value=pad_id))
    return list(zip(padded, targets, strict=True))


@contextmanager
def seeded_example(place: int) -> Iterator[None]:
    """Inside, random numbers are those of the example at `place` of an epoch of seed 0."""
    with _own_randomness():
        _seed_everything(0, place)
        yield


def _seed_everything(seed: int, place: int) -> None:
    sequence = np.random.SeedSequence(seed, spawn_key=(_EXAMPLE, place))
    first, second = (int(word) for word in sequence.generate_state(2, np.uint32))
    random.seed(first << 32 | second)
    np.random.seed([first, second])
    torch.default_generator.manual_seed(first << 32 | second)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Restore the caller's global random generators on leaving."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
