"""A weight whose uses are observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ws_learner.pruning.patterns.layout import Layout

__all__ = ["Watched"]


@dataclass(kw_only=True, eq=False)
class Watched:
    """A weight that is observed.

    Attributes:
        name: Of the parameter.
        parameter: The weight.
        kind: See `LayerRow.kind`.
        layout: Learnt at the first use, if it was not known.
        modules: Modules whose call is a use of the weight.
    """

    name: str
    parameter: nn.Parameter
    kind: str
    layout: Layout
    modules: Sequence[nn.Module] = ()
