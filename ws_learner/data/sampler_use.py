"""What the sampler of a DataLoader says about its data: all of it, a part, or weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from ws_learner.core import UserError, say

__all__ = ["sampled_part"]


def sampled_part(
    loader: DataLoader[Any], *, where: str
) -> tuple[Sequence[int] | None, Sequence[float] | None]:
    """Which examples a loader reads, and how often relative to one another.

    Orders are drawn anew by the learner; so that nothing that a sampler leaves out is read, a part
    is kept, and so are the weights of a `WeightedRandomSampler`.

    Args:
        loader: Over a map-style data set.
        where: What the loader is, for messages.

    Returns:
        Positions of the examples, None for all; and a weight of each, None if they are equal.

    Raises:
        UserError: The sampler repeats or leaves out examples in a way that is not known.
    """
    count = len(loader.dataset)  # type: ignore[arg-type]
    sampler: Any = loader.batch_sampler or loader.sampler
    if type(sampler) is BatchSampler:
        sampler = sampler.sampler
    kind = type(sampler)
    if kind in (RandomSampler, SequentialSampler):
        if len(sampler) != count:
            say(
                f"{where}: an epoch reads all {count} examples once, not {len(sampler)} as its "
                "sampler says"
            )
        return None, None
    if kind is SubsetRandomSampler:
        return list(map(int, sampler.indices)), None
    if kind is DistributedSampler:
        say(f"{where}: all ranks' examples are read; the learner divides them among its own ranks")
        return None, None
    if kind is WeightedRandomSampler and sampler.replacement:
        return None, _weights(sampler, count, where=where)
    _check_order(sampler, count, where=where)
    say(
        f"{where}: the order of its {kind.__name__} is not kept; batches are drawn at random by "
        "the seed"
    )
    return None, None


def _weights(sampler: Any, count: int, *, where: str) -> list[float]:
    weights = [float(weight) for weight in torch.as_tensor(sampler.weights)]
    if len(weights) != count:
        raise UserError(
            f"{where}: its WeightedRandomSampler has {len(weights)} weights for {count} examples; "
            "give one weight for each"
        )
    say(
        f"{where}: training draws by the weights of its WeightedRandomSampler, {count} examples "
        "an epoch; scores count each example once"
    )
    return weights


def _check_order(sampler: Iterable[Any], count: int, *, where: str) -> None:
    """Refuse a sampler of one's own that does not read every example once."""
    drawn = [part if isinstance(part, Sequence) else (part,) for part in islice(sampler, count + 1)]
    numbers = list(chain.from_iterable(drawn))
    whole = all(isinstance(number, int) for number in numbers)
    if not whole or sorted(numbers) != list(range(count)):
        raise UserError(
            f"{where}: its sampler {type(sampler).__name__} does not read each of the {count} "
            "examples once, and the learner draws its own batches; give a DataLoader over "
            "torch.utils.data.Subset(dataset, indices), or one with a WeightedRandomSampler"
        )
