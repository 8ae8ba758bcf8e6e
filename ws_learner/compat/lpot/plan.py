"""Build a pruning plan per parameter from an LPOT file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from ws_learner.compat.lpot.epoch_plan import EpochPlan, PlanKind
from ws_learner.compat.lpot.pattern import spelled_pattern
from ws_learner.compat.lpot.schema import LpotConf, Pruner, PruneType
from ws_learner.core import UserError, say, shown_repr
from ws_learner.pruning import (
    HeadPattern,
    Pattern,
    build_pattern_plan,
    default_names,
    find_attention,
    parse_pattern,
    refuse_no_units,
    shared_with_embedding,
    warn_of_unlocked,
)

__all__ = ["build_plans", "parse_lpot_pattern"]

Value = TypeVar("Value")

_KINDS: dict[PruneType, PlanKind] = {
    "basic_magnitude": "magnitude",
    "group_lasso": "magnitude",
    "gradient_sensitivity": "sensitivity",
    "pattern_lock": "lock",
    "magnitude": "magnitude",
    "gradient": "gradient",
    "snip": "snip",
    "snip_momentum": "snip_momentum",
}


def build_plans(conf: LpotConf, model: nn.Module) -> tuple[EpochPlan, ...]:
    """Resolve names, patterns and the values that pruners leave to the global ones.

    A local value counts if it is there at all, a local 0 too. Where a pattern does not divide a
    tensor, the units at its edges are smaller; a warning names the tensor.

    Raises:
        UserError: A name matches no parameter, or a pattern is unknown or cannot prune so much.
    """
    plans = tuple(_plan(conf, pruner, model) for pruner in conf.pruners)
    if any(plan.kind == "lock" for plan in plans):
        warn_of_unlocked(model, [name for plan in plans for name in plan.names])
    return plans


def parse_lpot_pattern(text: str) -> Pattern:
    """A pattern in LPOT's spelling, where N:M counts the zeros: its `1:4` is our `3:4`.

    Blocks are outputs x inputs, as from Neural Compressor 1.14 on. The table of validated models
    writes DLRM's inputs first and sets the outputs bold, `4x***16***`; that is read as 16x4.

    Example:
        >>> str(pattern_of("1:4")), str(pattern_of("2in4")), str(pattern_of("tile_pattern_4x1"))
        ('3:4', '2:4', '4x1')
    """
    return parse_pattern(spelled_pattern(text))


def _plan(conf: LpotConf, pruner: Pruner, model: nn.Module) -> EpochPlan:
    spelled = _own(pruner.pattern, pruner.parameters.get("pattern", "1x1"))
    pattern = parse_lpot_pattern(spelled)
    names = _resolve(pruner, model)
    if isinstance(pattern, HeadPattern) and pruner.prune_type != "pattern_lock":
        names = _heads(names, pruner, model)
    target = _own(pruner.target_sparsity, conf.target_sparsity)
    start, end = _own(pruner.start_epoch, conf.start_epoch), _own(pruner.end_epoch, conf.end_epoch)
    initial = _own(pruner.initial_sparsity, conf.initial_sparsity)
    where = f"pruner in line {pruner.line}" if pruner.line else "Pruner"
    if start > end or initial > target:
        raise UserError(
            f"{where}: start_epoch {start} must not be above end_epoch {end}, nor "
            f"initial_sparsity {initial} above target_sparsity {target}"
        )
    if pruner.prune_type == "group_lasso" and "alpha" not in pruner.parameters:
        raise UserError(f"{where}: group_lasso needs parameters: {{alpha: 0.006}} or the like")
    fitted = {} if pruner.prune_type == "pattern_lock" else _fitted(model, names, pattern)
    for name, adjusted in fitted.items():
        weight = model.get_parameter(name)
        _check_fit(name, weight, adjusted, target=target, where=where)
        if not adjusted.divides(tuple(weight.shape)):
            say(
                f"warning: {where}: the pattern {pattern} does not divide {name} of shape "
                f"{tuple(weight.shape)}: units at its edges are smaller"
            )
    if fitted:
        _check_any(model, fitted, target=target)
    return EpochPlan(
        names=names,
        kind=_KINDS[pruner.prune_type],
        pattern=pattern,
        start_epoch=start,
        end_epoch=end,
        initial=initial,
        target=target,
        frequency=_own(pruner.update_frequency, conf.frequency),
        formula=_own(pruner.formula, conf.formula),
        alpha=float(pruner.parameters.get("alpha", 0.0)) if _lasso(pruner) else 0.0,
    )


def _heads(names: tuple[str, ...], pruner: Pruner, model: nn.Module) -> tuple[str, ...]:
    """Those of the names that are projections of an attention.

    Raises:
        UserError: None is.
    """
    found = find_attention(model)
    known = {name for attention in found for name in attention.patterns}
    chosen = tuple(name for name in names if name in known)
    if not chosen:
        line = f" (line {pruner.line})" if pruner.line else ""
        raise UserError(
            f"pattern mha{line}: none of the {len(names)} parameters named is a projection of an "
            f"attention; {len(found)} attentions were found in the network"
        )
    return chosen


def _fitted(model: nn.Module, names: Sequence[str], pattern: Pattern) -> dict[str, Pattern]:
    """The pattern of each weight in its layout; of an attention's projections with their heads."""
    return {n: build_pattern_plan(model, [n], pattern=pattern).patterns[n] for n in names}


def _own(local: Value | None, shared: Value) -> Value:
    return shared if local is None else local


def _lasso(pruner: Pruner) -> bool:
    return pruner.prune_type == "group_lasso"


def _check_fit(
    name: str, weight: nn.Parameter, pattern: Pattern, *, target: float, where: str
) -> None:
    """Refuse a target beyond what the pattern can prune, such as 0.9 by 2:4."""
    wanted, unit = round(target * weight.numel()), int(pattern.sizes(tuple(weight.shape)).max())
    most = pattern.feasible(tuple(weight.shape), wanted)
    if abs(most - wanted) > unit:
        raise UserError(
            f"{where}: target_sparsity {target} of {name}: the pattern {pattern} allows at most "
            f"{most / weight.numel():.4g}"
        )


def _check_any(model: nn.Module, patterns: Mapping[str, Pattern], *, target: float) -> None:
    """Refuse a target that comes to no whole unit in any layer."""
    shapes = {name: tuple(model.get_parameter(name).shape) for name in patterns}

    def zeros_at(ratio: float) -> int:
        return sum(
            pattern.feasible(shapes[name], round(ratio * math.prod(shapes[name])))
            for name, pattern in patterns.items()
        )

    refuse_no_units(
        zeros_at,
        target,
        total=sum(map(math.prod, shapes.values())),
        pattern=next(iter(patterns.values())),
        names=patterns,
    )


def _resolve(pruner: Pruner, model: nn.Module) -> tuple[str, ...]:
    """The parameters named, in the network's order; those of a layer table if none is named.

    A weight that an embedding shares must be named to the letter. A pattern lock without names
    keeps the zeros of every matrix, embeddings included.
    """
    shapes = {name: p.dim() for name, p in model.named_parameters()}
    weights = [name for name, axes in shapes.items() if axes > 1]
    if not pruner.names and pruner.prune_type == "pattern_lock":
        return tuple(weights)
    if not pruner.names:
        default = set(default_names(model))
        return tuple(name for name in shapes if name in default)
    shared = shared_with_embedding(model)
    chosen: set[str] = set()
    for wanted in pruner.names:
        found = [n for n in shapes if fnmatchcase(n, wanted) or n == f"{wanted}.weight"]
        found = [name for name in found if shapes[name] > 1] or found
        if not found:
            near = _nearest(wanted, weights)
            line = f" (line {pruner.line})" if pruner.line else ""
            raise UserError(
                f"names{line}: {shown_repr(wanted)} is no parameter of the network; "
                f"did you mean {near}?"
            )
        kept = [n for n in found if n not in shared or wanted in (n, n.removesuffix(".weight"))]
        for name in set(found) - set(kept):
            say(f"{name} is shared with the embedding {shared[name]} and stays dense; to prune it, "
                "write its name into names")  # fmt: skip
        chosen.update(kept)
    return tuple(name for name in shapes if name in chosen)


def _nearest(name: str, known: Sequence[str]) -> str:
    return " or ".join(repr(n) for n in difflib.get_close_matches(name, known, n=2, cutoff=0.0))
