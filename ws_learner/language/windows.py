"""Windows of tokens: texts cut into pieces of equal length, disjoint by split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs import IntArray
from ws_learner.core import UserError, say
from ws_learner.data import Texts
from ws_learner.language.texts import read_text
from ws_learner.language.transformers_import import quiet

__all__ = ["Windows", "cut_windows", "read_whole"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Token numbers, (windows, length) int64 each.

    Attributes:
        calibration: The layers' inputs are taken from these.
        search: Ratios are chosen on these.
        select: The best ratios of a search by rollouts are compared on these; from the same texts.
        test: Held out; perplexity is measured on these.
        training: Recovery trains on these, all of the calibration texts; none without recovery.
    """

    calibration: Tensor
    search: Tensor
    test: Tensor
    select: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    training: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))

    @property
    def digest(self) -> str:
        """SHA-256 of all token numbers and their split."""
        parts = hashlib.sha256()
        used = (self.calibration, self.search, self.test)
        for part in (*used, *(one for one in (self.select, self.training) if len(one))):
            parts.update(f"{tuple(part.shape)}".encode())
            parts.update(part.numpy().tobytes())
        return parts.hexdigest()


def cut_windows(
    texts: Texts,
    tokenizer: Any,
    *,
    length: int,
    calibration: int,
    search: int,
    test: int,
    select: int = 0,
    training: bool = False,
) -> Windows:
    """Cut texts into windows.

    The documents of a split are joined, with the end-of-text token between them if there is one.
    Of all windows that follow one another, those that are taken are spread evenly. No special token
    is put before a window.

    Args:
        texts: Documents by split.
        tokenizer: Of transformers.
        length: Tokens of a window, at least 2.
        calibration: Most windows of this split; fewer if the texts have fewer.
        search: Likewise.
        test: Likewise.
        select: Most other windows of the search's texts.
        training: Whether all windows of the calibration texts are there for training.

    Raises:
        UserError: A split has too few tokens: one window for calibration and search, two for test.
    """
    asked = {"calibration": calibration, "search": search, "test": test}
    found, every = dict[str, Tensor](), dict[str, Tensor]()
    for name, most in asked.items():
        every[name] = _all_windows(getattr(texts, name), tokenizer, name, length=length)
        found[name] = every[name][_spread(len(every[name]), most)]
    fewer = [f"{len(found[name])} {name} of {most}" for name, most in asked.items()
             if len(found[name]) < most]  # fmt: skip
    if fewer:
        say(f"adjusted: windows of {length} tokens: {', '.join(fewer)}, for the texts end there")
    if training:
        found["training"] = every["calibration"]
    if select:
        there = len(every["search"])
        left = np.setdiff1d(np.arange(there), _spread(there, search))
        found["select"] = every["search"][left[_spread(len(left), select)]]
    return Windows(**found)


def read_whole(files: Sequence[Path], tokenizer: Any, *, length: int, most: int = 12) -> Tensor:
    """(N, length) windows of texts that are only measured on, spread evenly.

    Raises:
        UserError: A file is no text in UTF-8, or they have fewer than two windows of tokens.
    """
    found = _all_windows([read_text(path) for path in files], tokenizer, "test", length=length)
    return found[_spread(len(found), most)]


def _spread(there: int, most: int) -> IntArray:
    """Places of at most so many windows, spread evenly over those that are there."""
    places: IntArray = np.linspace(0, there - 1, min(most, there)).round().astype(np.int64)
    return places


def _all_windows(documents: Sequence[str], tokenizer: Any, name: str, *, length: int) -> Tensor:
    """(N, length) windows that follow one another."""
    pieces: list[IntArray] = []
    end = tokenizer.eos_token_id
    with quiet():
        for document in documents:
            ids = tokenizer(document, add_special_tokens=False)["input_ids"]
            pieces.append(np.array([*ids, end] if end is not None else ids, dtype=np.int64))
    stream = np.concatenate([np.zeros(0, np.int64), *pieces])
    there, least = len(stream) // length, 2 if name == "test" else 1
    if there < least:
        raise UserError(
            f"`text`: the {name} part has {len(stream):,} tokens, {least} windows of {length} "
            f"need {least * length:,}; give more text or a shorter `window`"
        )
    return torch.from_numpy(stream[: there * length].reshape(there, length))
