"""What splits hold, whatever their digest says: a user may have made that up."""

from __future__ import annotations

from ws_learner.core import value_digest
from ws_learner.data.reading import MemorySplit
from ws_learner.data.splits import DataSplits, Split

__all__ = ["content_digest"]

_EXAMPLES = 16


def content_digest(data: DataSplits) -> str:
    """Digest of all examples held in memory, and of the first 16 of each other split.

    Of a training split that is not in memory, the first 16 count augmented, too. A test split
    that is not in memory is not read. `DataSplits.digest` must cover the rest.
    """
    parts: list[object] = [_content(split) for split in (data.train, data.search, data.select)]
    if isinstance(data.test, MemorySplit):
        parts.append(data.test)
    else:
        parts.append(len(data.test))
    if not isinstance(data.train, MemorySplit):
        parts.append(next(iter(data.train.batches(_EXAMPLES, seed=0, augment=True))))
    return value_digest(parts)


def _content(split: Split) -> object:
    if isinstance(split, MemorySplit):
        return split
    return len(split), next(iter(split.batches(_EXAMPLES)))
