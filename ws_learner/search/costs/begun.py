"""What a search was begun with: measured budgets stay as they were when it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ws_learner.config import Budget
from ws_learner.core import (
    STATE_REMEDY,
    RunDir,
    read_json,
    reading,
    say,
    sealed,
    unsealed,
    write_json,
)
from ws_learner.search.costs.settle import Limit

__all__ = ["Begun", "keep_begun", "load_begun"]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A budget as an earlier call measured it.

    Attributes:
        digest: Of the costs.
        most: The budget in their unit.
        factor: By which costs were scaled, see `ScaledCosts`.
        pace: See `Limit`; None also in runs of earlier versions.
    """

    digest: str
    most: float
    factor: float = 1.0
    pace: float | None = None


def load_begun(run: RunDir) -> dict[str, Begun]:
    """By budget what an earlier call on this run measured; empty at the first call.

    Raises:
        UserError: The file is damaged.
    """
    path = _path(run)
    if not path.exists():
        return {}
    kept = unsealed(read_json(path), path, STATE_REMEDY)
    with reading(path, STATE_REMEDY):
        return {
            budget: Begun(
                digest=str(one["digest"]),
                most=float(one["most"]),
                factor=float(one["factor"]),
                pace=None if one.get("pace") is None else float(one["pace"]),
            )
            for budget, one in kept["budgets"].items()
        }


def keep_begun(
    run: RunDir, budgets: Sequence[Budget], limits: Sequence[Limit], earlier: Mapping[str, Begun]
) -> None:
    """Write what is measured now; a search in other costs starts anew, with a line."""
    now = {
        str(budget): Begun(
            digest=limit.costs.digest,
            most=limit.most,
            factor=getattr(limit.costs, "factor", 1.0),
            pace=limit.pace,
        )
        for budget, limit in zip(budgets, limits, strict=True)
    }
    if now == earlier:
        return
    same = {name: one.digest for name, one in now.items()} == {
        name: one.digest for name, one in earlier.items()
    }
    search = run.state / "search.pt"
    if earlier and not same and search.exists():
        say(
            "costs are others than when the search was begun, as on another machine: it starts anew"
        )
        search.unlink()
    plain = {name: asdict(one) for name, one in now.items()}
    write_json(_path(run), sealed({"budgets": plain}))


def _path(run: RunDir) -> Path:
    return run.state / "budgets.json"
