"""A search goes on only with the costs that it began with."""

from __future__ import annotations

from collections.abc import Sequence

from ws_learner.core import RunDir, UserError, read_json, write_json
from ws_learner.search.costs.settle import Limit

__all__ = ["refuse_other_costs"]


def refuse_other_costs(limits: Sequence[Limit], run: RunDir) -> None:
    """Note the digests of the costs in the state; refuse others than an unfinished search had.

    Measured costs differ from machine to machine, and profiles in ticks of one table mean nothing
    in those of another.

    Raises:
        UserError: The search in this folder began with other costs.
    """
    path = run.state / "costs.json"
    digests = {limit.costs.unit: limit.costs.digest for limit in limits}
    known = read_json(path) if path.exists() else digests
    if known != digests and (run.state / "search.pt").exists():
        units = [unit for unit, digest in digests.items() if known.get(unit) != digest]
        raise UserError(
            f"`run_dir` {run.path}: its search began with other costs ({', '.join(units)}), "
            "measured on another machine or measured again; go on where it began, or delete "
            "state/search.pt there, which starts the search anew"
        )
    write_json(path, digests)
