"""Map an entry of a `WeightPruningConfig` to layers and a method's settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from torch import nn

from ws_learner.compat.lpot.plan import parse_lpot_pattern
from ws_learner.compat.neural_compressor.config import OpPruning
from ws_learner.core import UserError, say
from ws_learner.pruning import (
    GradualConfig,
    GroupLassoConfig,
    HeadPattern,
    HeldFromStart,
    OneShotSchedule,
    PatternLockConfig,
    Schedule,
    Sparsifier,
    build_schedule,
    count_zeros,
    find_attention,
    found_zeros,
)

__all__ = ["layers_of", "sparsifier_of"]


_ALL_TYPES = OpPruning.pruning_op_types
"""What is pruned where no types are given."""


def layers_of(entry: OpPruning, model: nn.Module) -> tuple[str, ...]:
    """Names of the weights an entry prunes, in the network's order.

    A layer's class name contains one of `pruning_op_types`, its name matches one of `op_names`
    and none of `excluded_op_names`. A linear layer or convolution at the very end, dropout aside,
    is the classifier and stays dense, unless an op name is its name to the letter. A pattern lock
    has no classifier to spare: without op names it keeps the zeros of every weight that has some.

    Raises:
        UserError: An op name matches no layer, or nothing is left.
    """
    kinds = {
        name: module
        for name, module in model.named_modules()
        if any(part in type(module).__name__ for part in entry.pruning_op_types)
        and isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.dim() > 1
    }
    for expression in entry.op_names:
        if not any(re.search(expression, name) for name in kinds):
            near = difflib.get_close_matches(expression, kinds, n=2, cutoff=0.0)
            raise UserError(
                f"op_names: {expression!r} matches none of the {len(kinds)} layers; "
                f"did you mean {' or '.join(map(repr, near))}?"
            )
    chosen = [n for n in kinds if not entry.op_names or _matches(n, entry.op_names)]
    chosen = [n for n in chosen if not _matches(n, entry.excluded_op_names)]
    last, lock = _classifier(model), entry.pruning_type == "pattern_lock"
    if last in chosen and last not in entry.op_names and not lock:
        say(f"{last} is the classifier and stays dense; to prune it, put its name into op_names")
        chosen.remove(last)
    names = [f"{name}.weight" if name else "weight" for name in chosen]
    if lock and not entry.op_names and entry.pruning_op_types == _ALL_TYPES:
        listed = {id(model.get_parameter(name)) for name in names}
        found = [n for n in found_zeros(model) if not _matches(n, entry.excluded_op_names)]
        names += [name for name in found if id(model.get_parameter(name)) not in listed]
    if entry.pattern == "mha" and not lock:
        known = {name for found in find_attention(model) for name in found.patterns}
        names = [name for name in names if name in known]
    if not names:
        raise UserError(
            f"op_names {list(entry.op_names)}, excluded_op_names {list(entry.excluded_op_names)} "
            f"and pattern {entry.pattern} leave no layer to prune"
        )
    return tuple(names)


def _matches(name: str, expressions: Iterable[str]) -> bool:
    return any(re.search(expression, name) for expression in expressions)


def _classifier(model: nn.Module) -> str | None:
    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if not any(True for _ in module.children()) and not isinstance(module, nn.Dropout)
    ]
    name, module = leaves[-1]
    return name if name and isinstance(module, nn.Linear | nn.Conv2d) else None


def sparsifier_of(entry: OpPruning, model: nn.Module, names: tuple[str, ...]) -> Sparsifier:
    """Build the sparsifier of the weights `names` from the entry.

    Raises:
        UserError: The pattern is unknown or does not fit, or there is no zero to lock.
    """
    total = entry.end_step + 1
    if entry.pruning_type == "pattern_lock":
        zeros = {name: count for name, count in found_zeros(model, names).items() if count}
        if not zeros:
            raise UserError(f"pattern_lock: none of {len(names)} layers has a zero to keep")
        return Sparsifier(model, PatternLockConfig(), zeros=zeros, total_steps=total)
    pattern = parse_lpot_pattern(entry.pattern)
    settings = GradualConfig(
        pattern=pattern,
        criterion=entry.pruning_type,
        pool=entry.criterion_reduce_type,
        scope=entry.pruning_scope,
        ratio_min=entry.min_sparsity_ratio_per_op,
        ratio_max=entry.max_sparsity_ratio_per_op,
        remainder="pad" if isinstance(pattern, HeadPattern) else "skip",
        mask_update_step=entry.pruning_frequency,
        fixed_schedule=_schedule(entry, model, names),
    )
    if entry.reg_type == "group_lasso":
        own = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
        settings = GroupLassoConfig(**own, alpha=entry.parameters["reg_coeff"])
    target = min(entry.target_sparsity, entry.max_sparsity_ratio_per_op)
    return Sparsifier(model, settings, ratios=dict.fromkeys(names, target), total_steps=total)


def _schedule(entry: OpPruning, model: nn.Module, names: tuple[str, ...]) -> Schedule:
    """Updates at start_step, start_step + frequency ...; the last that fits is on target."""
    length = (entry.end_step - entry.start_step) // entry.pruning_frequency
    end = entry.start_step + length * entry.pruning_frequency
    target = min(entry.target_sparsity, entry.max_sparsity_ratio_per_op)
    initial = 0.0
    if entry.resume_from_pruned_checkpoint:
        weights = [model.get_parameter(name) for name in names]
        initial = sum(map(count_zeros, weights)) / sum(weight.numel() for weight in weights)
        initial = min(initial, target)
    if not length or not target:
        schedule: Schedule = OneShotSchedule(entry.start_step)
    else:
        schedule = build_schedule(
            entry.sparsity_decay_type,
            begin=entry.start_step,
            end=end,
            target=target,
            initial=initial,
        )
    return HeldFromStart(schedule, initial / target) if initial else schedule
