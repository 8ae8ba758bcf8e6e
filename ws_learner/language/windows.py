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

from ws_learner.core import UserError, reason_of, say
from ws_learner.data import Texts
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = [
    "TOKENIZER_FILES",
    "Windows",
    "cut_windows",
    "open_tokenizer",
    "read_texts",
    "read_whole",
]

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja"),
)
_PART = 0.1  # share of an own text that is held out, and as much for the search
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Token numbers, (windows, length) int64 each.

    Attributes:
        calibration: The layers' inputs are taken from these.
        search: Ratios are chosen on these.
        test: Held out; perplexity is measured on these.
        training: Recovery trains on these, all of the calibration texts; none without recovery.
    """

    calibration: Tensor
    search: Tensor
    test: Tensor
    training: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))

    @property
    def digest(self) -> str:
        """SHA-256 of all token numbers and their split."""
        parts = hashlib.sha256()
        used = (self.calibration, self.search, self.test)
        for part in (*used, self.training) if len(self.training) else used:
            parts.update(f"{tuple(part.shape)}".encode())
            parts.update(part.numpy().tobytes())
        return parts.hexdigest()


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a Hugging Face folder; no code of the folder runs.

    Raises:
        UserError: There is none, or it cannot be opened.
    """
    transformers = import_transformers()
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"`model` hf:{folder}: no tokenizer in it; save it there with "
            "tokenizer.save_pretrained(folder)"
        )
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # many kinds; one line tells all
        raise UserError(
            f"`model` hf:{folder}: its tokenizer cannot be opened: {reason_of(error)}"
        ) from error


def read_texts(files: Sequence[Path]) -> Texts:
    """Read own texts; of each the last tenth is held out and the tenth before is for the search.

    Raises:
        UserError: A file is no text in UTF-8, or too large.
    """
    calibration, search, test = [], [], []
    for path in files:
        text = _read(path)
        first, second = (round(len(text) * (1 - share * _PART)) for share in (2, 1))
        calibration.append(text[:first])
        search.append(text[first:second])
        test.append(text[second:])
    return Texts(calibration=tuple(calibration), search=tuple(search), test=tuple(test))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"`text` {path}: has more than 1 GiB; give a part of it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"`text` {path}: is no text in UTF-8; convert it") from error
    except OSError as error:
        raise UserError(f"`text` {path}: cannot be read: {error.strerror}") from error


def cut_windows(
    texts: Texts,
    tokenizer: Any,
    *,
    length: int,
    calibration: int,
    search: int,
    test: int,
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
        training: Whether all windows of the calibration texts are there for training.

    Raises:
        UserError: A split has too few tokens: one window for calibration and search, two for test.
    """
    asked = {"calibration": calibration, "search": search, "test": test}
    cut = {
        name: _cut(getattr(texts, name), tokenizer, name, length=length, most=most)
        for name, most in asked.items()
    }
    fewer = [f"{len(cut[name])} {name} of {most}" for name, most in asked.items()
             if len(cut[name]) < most]  # fmt: skip
    if fewer:
        say(f"adjusted: windows of {length} tokens: {', '.join(fewer)}, for the texts end there")
    if training:
        cut["training"] = _cut(
            texts.calibration, tokenizer, "calibration", length=length, most=None
        )
    return Windows(**cut)


def _cut(
    documents: Sequence[str], tokenizer: Any, name: str, *, length: int, most: int | None
) -> Tensor:
    pieces: list[list[int]] = []
    end = tokenizer.eos_token_id
    with quiet():
        for document in documents:
            ids = tokenizer(document, add_special_tokens=False)["input_ids"]
            pieces.append([*ids, end] if end is not None else ids)
    stream = np.concatenate([np.array(piece, dtype=np.int64) for piece in pieces] or [np.array([])])
    there, least = len(stream) // length, 2 if name == "test" else 1
    if there < least:
        raise UserError(
            f"`text`: the {name} part has {len(stream):,} tokens, {least} windows of {length} "
            f"need {least * length:,}; give more text or a shorter `window`"
        )
    places = (
        np.linspace(0, there - 1, there if most is None else min(most, there)).round().astype(int)
    )
    windows = stream[: there * length].reshape(there, length)[places]
    return torch.from_numpy(windows.astype(np.int64))


def read_whole(files: Sequence[Path], tokenizer: Any, *, length: int, most: int = 12) -> Tensor:
    """(N, length) windows of texts that are only measured on, spread evenly.

    Raises:
        UserError: A file is no text in UTF-8, or they have fewer than two windows of tokens.
    """
    return _cut([_read(path) for path in files], tokenizer, "test", length=length, most=most)
