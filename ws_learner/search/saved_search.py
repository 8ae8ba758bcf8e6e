"""State of a search between rounds, in one file."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws_learner.core import (
    STATE_REMEDY,
    UserError,
    load_state_file,
    reading,
    save_state_file,
    say,
    warn,
)
from ws_learner.search.failures import count_failed
from ws_learner.search.history import Rollout, from_plain, to_plain

__all__ = ["SavedSearch", "load_search", "save_search"]

_RULES = 2
"""Version of the rules of loop and choice. 2: no profile twice, patience, jittered finalists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSearch:
    """A search after some round.

    Attributes:
        proposer: State of the proposer.
        history: All rollouts so far.
        rounds: Length of the history after each round.
        seconds: Time that the search has taken, all calls together.
    """

    proposer: dict[str, Any]
    history: Sequence[Rollout]
    rounds: Sequence[int]
    seconds: float


def save_search(path: Path, saved: SavedSearch, *, rewarded: str) -> None:
    """Write proposer and history to one file, so that they always belong to the same round.

    Raises:
        UserError: The file cannot be written.
    """
    history, rounds = json.dumps(to_plain(saved.history)), json.dumps(list(saved.rounds))
    state = {"proposer": saved.proposer, "history": history, "rewarded": rewarded}
    save_state_file(path, state | {"rules": _RULES, "rounds": rounds, "seconds": saved.seconds})


def load_search(path: Path, *, rewarded: str) -> SavedSearch | None:
    """Read what `save_search` or an earlier version wrote; None if there is nothing to go on with.

    Raises:
        UserError: The file is damaged, or its search had another reward.
    """
    if not path.exists():
        return None
    saved = load_state_file(path)
    before = saved.get("rewarded", "")
    if before != rewarded:
        usual = "as a classifier"
        raise UserError(
            f"{path}: this search was begun with rollouts rewarded {before or usual}, "
            f"but now they would be rewarded {rewarded or usual}; give another `run_dir`, "
            "or `outputs` and metric as they were"
        )
    with reading(path, STATE_REMEDY):
        history = from_plain(json.loads(saved["history"]))
        rounds = json.loads(saved["rounds"]) if "rounds" in saved else [len(history)]
        rounds = [operator.index(length) for length in rounds]
        proposer, seconds = dict(saved["proposer"]), float(saved.get("seconds", 0.0))
    if history and count_failed(history) == len(history):
        warn(f"all {len(history)} rollouts of the earlier call failed; the search starts anew")
        return None
    if saved.get("rules") != _RULES:
        say(
            f"{path}: begun by an earlier version; the search goes on by today's rules: no profile "
            "is scored twice, `ws_patience`, `ws_nb_jitters`"
        )
    return SavedSearch(
        proposer=proposer,
        history=history,
        rounds=rounds,
        seconds=seconds,
    )
