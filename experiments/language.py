"""Base of the experiments on causal language models; they are pruned without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ws_learner.core import UserError

__all__ = ["check_folder", "find_model", "find_texts", "refuse_training"]

_HOW = "such as ./run_local.sh smollm_at_sotu --prune_ratio 0.5"


def refuse_training(name: str) -> NoReturn:
    """For verbs that train a network or hold it in memory.

    Raises:
        UserError: Always.
    """
    raise UserError(
        f"{name}: a causal language model is pruned block by block, {_HOW}; this command does not "
        "know it (docs/language_models.md)"
    )


def find_model(model: str) -> Path:
    """The folder of `hf:DIR`.

    Raises:
        UserError: It is spelled otherwise.
    """
    kind, _, place = model.partition(":")
    if kind != "hf" or not place:
        raise UserError(
            f"`model` {model}: must be hf:DIR, a folder made with model.save_pretrained(DIR) and "
            "tokenizer.save_pretrained(DIR)"
        )
    return Path(place).expanduser()


def check_folder(folder: Path) -> None:
    """Look whether there is such a folder; its files are checked when it is opened.

    Raises:
        UserError: There is none.
    """
    if not folder.is_dir():
        raise UserError(
            f"`model` hf:{folder}: no such folder; nothing is downloaded, so save the network "
            "there with model.save_pretrained(folder)"
        )


def find_texts(patterns: Sequence[str]) -> list[Path]:
    """Files of paths or patterns, sorted, without duplicates.

    Raises:
        UserError: One fits no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        root = Path(path.anchor) if path.is_absolute() else Path()
        relative = str(path.relative_to(root)) if path.is_absolute() else str(path)
        files = [path] if path.is_file() else sorted(root.glob(relative))
        files = [file for file in files if file.is_file()]
        if not files:
            raise UserError(f"`text` {pattern}: no such file; give text files or a quoted pattern")
        found |= dict.fromkeys(files)
    return list(found)
