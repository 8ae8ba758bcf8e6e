"""`protocols.csv`: what each protocol without rollouts would do, for the run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from envs import IntArray
from ws_learner.core import write_text
from ws_learner.search.context import AllocationContext

__all__ = ["write_protocols"]


def write_protocols(
    path: Path, profiles: Mapping[str, IntArray], context: AllocationContext
) -> None:
    """Write one row per layer: its weights, and its zeros by each protocol.

    Args:
        path: The file.
        profiles: (L,) zeros by protocol, or units of cost where the context is restated.
        context: The layer table.
    """
    in_weights, layers = (None, context.layers)
    if context.restated is not None:
        in_weights, layers = context.restated.shown
    columns = {"layer": [row.name for row in layers], "weights": [row.weights for row in layers]}
    zeros = {
        name: (profile if in_weights is None else in_weights(profile)).tolist()
        for name, profile in profiles.items()
    }
    write_text(path, pd.DataFrame(columns | zeros).to_csv(index=False, lineterminator="\n"))
