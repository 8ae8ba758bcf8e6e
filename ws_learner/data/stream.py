"""A stream of examples, such as an `IterableDataset`, taken into memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ws_learner.core import UserError, say, track

__all__ = ["MOST_EXAMPLES", "is_stream", "take_stream"]

MOST_EXAMPLES = 50_000
"""Examples of a stream that are kept unless another number is given."""

_MOST_BYTES = 4 * 2**30
_EVERY = 100


def is_stream(data: object) -> bool:
    """Whether `data` can be read from its beginning, again and again, but not by position."""
    from torch.utils.data import IterableDataset

    return isinstance(data, IterableDataset) or (
        type(data).__name__ == "IterableDataset" and hasattr(data, "__iter__")
    )


def take_stream(stream: Iterable[Any], *, most: int | None, where: str) -> list[Any]:
    """Read a stream once and keep its examples.

    Args:
        stream: Read in this process.
        most: Examples to keep, the first ones; None keeps all of a stream that ends.
        where: What it is, for messages.

    Raises:
        UserError: The stream is empty, too long, or larger than 4 GiB.
    """
    limit = MOST_EXAMPLES if most is None else most
    kept: list[Any] = []
    held = 0
    with track(f"{where}: reading the stream", total=limit) as progress:
        for example in stream:
            if len(kept) == limit:
                if most is None:
                    raise UserError(
                        f"{where}: the stream has not ended after {limit:,} examples; say how "
                        "many to take into memory with `max_examples`, or give a map-style data "
                        "set, which is read from where it is"
                    )
                break
            kept.append(example)
            held += _bytes(example)
            if held > _MOST_BYTES:
                raise UserError(
                    f"{where}: {len(kept):,} examples of the stream take more than "
                    f"{_MOST_BYTES / 2**30:.0f} GiB of memory; take fewer with `max_examples`, or "
                    "give a map-style data set, which is read from where it is"
                )
            if len(kept) % _EVERY == 0:
                progress.advance(_EVERY)
    if not kept:
        raise UserError(f"{where}: the stream has no examples")
    say(f"{where}: {len(kept):,} examples of the stream are in memory, {held / 2**20:,.1f} MiB")
    return kept


def _bytes(example: Any) -> int:
    """Memory of the arrays of an example."""
    if isinstance(example, Mapping):
        return sum(map(_bytes, example.values()))
    if isinstance(example, list | tuple):
        return sum(map(_bytes, example))
    if isinstance(example, str | bytes):
        return len(example)
    return int(getattr(example, "nbytes", 8))
