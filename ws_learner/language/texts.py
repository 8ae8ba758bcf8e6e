"""Texts and tokenizers of language tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, reason_of
from ws_learner.data import Texts
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = ["TOKENIZER_FILES", "open_tokenizer", "read_text", "read_texts"]

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja"),
)
_PART = 0.1  # share of an own text that is held out, and as much for the search
_MOST_BYTES = 1 << 30


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
        text = read_text(path)
        first, second = (round(len(text) * (1 - share * _PART)) for share in (2, 1))
        calibration.append(text[:first])
        search.append(text[first:second])
        test.append(text[second:])
    return Texts(calibration=tuple(calibration), search=tuple(search), test=tuple(test))


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: It is no text in UTF-8, or too large.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"`text` {path}: has more than 1 GiB; give a part of it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"`text` {path}: is no text in UTF-8; convert it") from error
    except OSError as error:
        raise UserError(f"`text` {path}: cannot be read: {error.strerror}") from error
