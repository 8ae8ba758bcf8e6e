"""What splits hold, whatever their digest says: a user may have made that up."""

from __future__ import annotations

from ws_learner.core import value_digest
from ws_learner.data.reading import MemorySplit
from ws_learner.data.splits import DataSplits, Split

__all__ = ["content_digest", "split_digest"]

_EXAMPLES = 16


def content_digest(data: DataSplits) -> str:
    """Digest of all examples held in memory, and of the first 16 of each other split.

    Of a training split that is not in memory, the first 16 count augmented, too. A test split
    that is not in memory is not read. `DataSplits.digest` must cover the rest.
    """
    parts: list[object] = [split_digest(split) for split in (data.train, data.search, data.select)]
    in_memory = isinstance(data.test, MemorySplit)
    parts.append(split_digest(data.test) if in_memory else len(data.test))
    if not isinstance(data.train, MemorySplit):
        parts.append(next(iter(data.train.batches(_EXAMPLES, seed=0, augment=True))))
    return value_digest(parts)


def split_digest(split: Split) -> str:
    """Digest of all examples and their augmentation if in memory, else of the first 16."""
    if isinstance(split, MemorySplit):
        return value_digest(split)
    return value_digest([len(split), next(iter(split.batches(_EXAMPLES)))])
