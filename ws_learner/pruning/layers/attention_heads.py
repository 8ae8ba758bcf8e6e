"""Detect attention heads by the usual names of their projections."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning.layers.attention_names import (
    FUSED,
    HEAD_COUNTS,
    KEYS,
    OUTPUTS,
    OUTPUTS_BESIDE,
    QUERIES,
    VALUES,
)
from ws_learner.pruning.patterns.blocks import HeadPattern

__all__ = ["AttentionHeads", "find_attention"]


@dataclass(frozen=True)
class AttentionHeads:
    """One attention: the weights that share its heads.

    Attributes:
        name: Of the module.
        patterns: Pattern of each weight, by parameter name: q, k, v (or one for all), then o.
    """

    name: str
    patterns: dict[str, HeadPattern]


def find_attention(model: nn.Module) -> tuple[AttentionHeads, ...]:
    """List the attentions with separate Linear projections, in order.

    An attention is a module with a number of heads and projections q, k, v, apart or as one; its
    output projection is inside it or in its parent (BERT's `attention.output.dense`).

    Raises:
        UserError: Keys and values have fewer heads than queries (grouped queries).
    """
    found = []
    for name, module in model.named_modules():
        heads = next((getattr(module, c) for c in HEAD_COUNTS if hasattr(module, c)), None)
        if not isinstance(heads, int) or heads < 1:
            continue
        inputs = [_linear(module, names) for names in (QUERIES, KEYS, VALUES)]
        fused = _linear(module, FUSED)
        output = _output(model, name, module)
        if output is None or (None in inputs and fused is None):
            continue
        patterns = {}
        if fused is not None:
            patterns[_weight(name, fused)] = HeadPattern(heads, "outputs", parts=3)
        else:
            rows = {model.get_parameter(_weight(name, i)).shape[0] for i in inputs if i}
            if len(rows) > 1:
                raise UserError(
                    f"`pattern` mha: {name} shares keys and values between heads, which is not "
                    "supported; leave its projections out with `exclude`"
                )
            patterns = {_weight(name, i): HeadPattern(heads, "outputs") for i in inputs if i}
        patterns[f"{output}.weight"] = HeadPattern(heads, "inputs")
        found.append(AttentionHeads(name, patterns))
    return tuple(found)


def _linear(module: nn.Module, names: tuple[str, ...]) -> str | None:
    """The first of the names that is a Linear inside the module."""
    inside = dict(module.named_modules())
    return next((n for n in names if n and isinstance(inside.get(n), nn.Linear)), None)


def _output(model: nn.Module, name: str, module: nn.Module) -> str | None:
    """Full name of the output projection: inside the attention, else inside its parent."""
    own = _linear(module, OUTPUTS)
    if own is not None:
        return _join(name, own)
    parent = name.rpartition(".")[0]
    beside = _linear(model.get_submodule(parent), OUTPUTS_BESIDE) if name else None
    return None if beside is None else _join(parent, beside)


def _join(parent: str, child: str) -> str:
    return f"{parent}.{child}" if parent else child


def _weight(parent: str, child: str) -> str:
    return f"{_join(parent, child)}.weight"
