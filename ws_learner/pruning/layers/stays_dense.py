"""What a run leaves dense, and why: for its report."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import nn

from envs import IntArray, LayerRow
from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import name_fits
from ws_learner.pruning.layers.frozen import is_adapter
from ws_learner.pruning.layers.prunable import shared_with_embedding, unlisted_weights
from ws_learner.pruning.layers.weight_kinds import is_embedding

__all__ = ["dense_weights"]

VECTORS = "biases, normalisation and other vectors"


def dense_weights(
    model: nn.Module, layers: Sequence[LayerRow], zeros: IntArray, config: WeightSparseConfig
) -> pd.DataFrame:
    """What stays dense: rows of the layer table without zeros, then what the table leaves out.

    Args:
        model: The network.
        layers: The layer table, L rows.
        zeros: (L,) planned zeros.
        config: Settings that choose layers.

    Returns:
        Columns `layer` (the parameter, or what several have in common), `weights` and `reason`.
    """
    shared = shared_with_embedding(model)
    found = [
        (row.name, row.weights, _of_row(row, config, shared))
        for row, count in zip(layers, zeros.tolist(), strict=True)
        if not count
    ]
    left = unlisted_weights(model, [row.name for row in layers])
    found += [(name, size, _of_unlisted(model, name, config)) for name, size in left.items()]
    named = dict(model.named_parameters(remove_duplicate=False))
    known = {id(named[name]) for name in {row.name for row in layers} | left.keys()}
    others = [p.numel() for p in model.parameters() if id(p) not in known]
    if others:
        reason = f"{len(others)} tensors, not matrices or kernels: few weights, much effect"
        found.append((VECTORS, sum(others), reason))
    return pd.DataFrame(found, columns=["layer", "weights", "reason"])


def _of_row(row: LayerRow, config: WeightSparseConfig, shared: dict[str, str]) -> str:
    if _named(row.name, config.ws_exempt):
        return "named in ws_exempt"
    if row.exempt and row.name in shared:
        return f"shared with the embedding {shared[row.name]}; name it in ws_include to prune it"
    if row.exempt or row.most == 0:
        return f"the pattern {config.pattern_spelling} does not fit its shape"
    return f"the ratio 0 was chosen ({config.ws_prune_ratio_prtl})"


def _of_unlisted(model: nn.Module, name: str, config: WeightSparseConfig) -> str:
    parameter = model.get_parameter(name)
    holder = model.get_submodule(name.rpartition(".")[0])
    if _named(name, config.ws_exclude):
        return "left out with ws_exclude"
    if not _named(name, config.ws_include):
        return "not named in ws_include"
    if is_adapter(name):
        return "a factor of a LoRA update"
    if is_embedding(holder):
        return "an embedding; name it in ws_include to prune it"
    if not parameter.requires_grad and not METHODS[config.ws_method].keeps_zeros:
        return "frozen (requires_grad is False)"
    if config.roles:
        return f"its role is not among {', '.join(config.roles)}"
    return (
        f"a weight of {type(holder).__name__}, of no kind that is pruned unless named in ws_include"
    )


def _named(name: str, patterns: Sequence[str]) -> bool:
    names = (name, name.rpartition(".")[0])
    return any(name_fits(one, pattern) for one in names for pattern in patterns)
