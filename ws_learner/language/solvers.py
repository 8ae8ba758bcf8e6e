"""The layer solvers by name."""

from __future__ import annotations

from ws_learner.core import UserError, suggest
from ws_learner.language.placeholder_solvers import SOLVERS
from ws_learner.language.walk import Solver

__all__ = ["find_solver"]


def find_solver(name: str) -> Solver:
    """A solver by its name.

    Raises:
        UserError: There is none.
    """
    if name not in SOLVERS:
        raise UserError(f"`solver` {name}: no such solver; {suggest(name, SOLVERS)}")
    return SOLVERS[name]
