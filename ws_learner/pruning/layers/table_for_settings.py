"""The layer table that the settings of a learner ask for."""

from __future__ import annotations

from torch import nn

from envs import LayerRow
from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import Inputs
from ws_learner.pruning.layers.frozen import leave_out_frozen
from ws_learner.pruning.layers.layer_plan import fitting_rows
from ws_learner.pruning.layers.roles import filter_by_role
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.layers.zeros_to_keep import with_kept_zeros
from ws_learner.pruning.patterns.pattern import ByRole, parse_pattern
from ws_learner.report import layers_in_ratios

__all__ = ["table_for_settings"]


def table_for_settings(
    model: nn.Module, example: Inputs, config: WeightSparseConfig
) -> tuple[LayerRow, ...]:
    """The rows of `layer_table` that method, pattern and location prune.

    Frozen layers and LoRA's factors are left out, see `leave_out_frozen`.

    Args:
        model: The network.
        example: (B, ...) inputs, several in a tuple, or keywords in a dict.
        config: Settings of the learner.

    Raises:
        UserError: No layer is left, or a name or pattern does not fit the network.
    """
    ratios = layers_in_ratios(config.ws_ratios) if config.ws_ratios else ()
    layers = layer_table(
        model,
        example,
        include=config.ws_include,
        exclude=config.ws_exclude,
        exempt=config.ws_exempt,
        named=ratios,
    )
    locked = METHODS[config.ws_method].keeps_zeros
    named = [row.name for row in layers] if config.ws_include != ("*",) else ratios
    whole = locked or config.ws_ratios is not None
    layers = leave_out_frozen(model, layers, named=named, whole=whole)
    if locked:
        return layers
    pattern = parse_pattern(config.pattern_spelling)
    if not isinstance(pattern, ByRole):  # a role pattern leaves parts of a layer dense
        layers = filter_by_role(layers, config.roles)
    rows = fitting_rows(
        model,
        layers,
        pattern=pattern,
        remainder=config.ws_remainder,
        method=config.ws_method,
    )
    return with_kept_zeros(model, rows, config)
