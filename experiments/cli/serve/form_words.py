"""Words of the command line for a request, and back: which experiments and flags there may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.discovery import bundled_name, experiment_names, own_file
from ws_learner.core import UserError, suggest
from ws_learner.service import NewRun

__all__ = ["OF_FORM", "named_experiments", "own_words", "words_of"]

_FLAGS = (
    *("prune_ratio", "budget", "protocol", "pattern", "num_rollouts", "search_time"),
    *("nb_epochs", "workers", "seed"),
)
OF_FORM = re.compile(rf"--({'|'.join(_FLAGS)})=.*")
"""A word that `words_of` makes."""


def named_experiments(names: Sequence[str]) -> dict[str, str]:
    """Short name -> experiment, as the command line takes it: a bundled one, or a file's path.

    Raises:
        UserError: One is neither, or two files have one name.
    """
    found: dict[str, str] = {}
    for name in names:
        file, bundled = own_file(name), bundled_name(name)
        if file is None and bundled is None:
            raise UserError(f"--experiment {name}: {_unknown(name)}")
        short, given = (file.name, str(file)) if file is not None else (str(bundled), str(bundled))
        if found.setdefault(short, given) != given:
            raise UserError(f"--experiment {name}: another file is called {short}; rename one")
    return found


def _unknown(name: str) -> str:
    path = Path(name).expanduser()
    if path.suffix == ".py" and not path.exists():
        return f"no such file (it would be {path.absolute()})"
    return f"no such experiment; {suggest(name, experiment_names())}, or the path of a file"


def words_of(new: NewRun, *, experiment: str) -> list[str]:
    """A request as words of the command line; a value cannot become a flag.

    Args:
        new: The request.
        experiment: Stands for the one it names.
    """
    minutes = None if new.minutes is None else f"{new.minutes:g}m"
    values = (new.prune_ratio, new.budget, new.protocol, new.pattern, new.rollouts, minutes)
    given = dict(zip(_FLAGS, (*values, new.epochs, new.workers, new.seed), strict=True))
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value)
             for name, value in given.items() if value is not None}  # fmt: skip
    return [experiment, *(f"--{name}={text}" for name, text in texts.items())]


def own_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without those of ./run_distributed.sh alone, which come first."""
    first = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    return tuple(words[first:])
