"""Map an entry of a `WeightPruningConfig` to layers and a method's settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from torch import nn

from ws_learner.compat.lpot.plan import parse_lpot_pattern
from ws_learner.compat.neural_compressor.config import OpPruning
from ws_learner.core import UserError, compile_expression, say
from ws_learner.pruning import (
    BeyondHeld,
    GradualConfig,
    GroupLassoConfig,
    HeadPattern,
    OneShotSchedule,
    PatternLockConfig,
    Schedule,
    Sparsifier,
    build_schedule,
    count_zeros,
    default_names,
    find_attention,
    found_zeros,
    kinds_of,
    shared_with_embedding,
)

__all__ = ["layers_of", "sparsifier_of"]


_ALL_TYPES = OpPruning.pruning_op_types
"""What is pruned where no types are given."""


def layers_of(entry: OpPruning, model: nn.Module) -> tuple[str, ...]:
    """Names of the weights an entry prunes, in the network's order.

    Prunable is what a layer table lists. A layer's class name contains one of
    `pruning_op_types`, its name matches one of `op_names` and none of `excluded_op_names`. A
    weight that an embedding shares stays dense, unless an op name is its layer's to the letter.
    So does the classifier, a linear layer or convolution at the very end, dropout aside. A
    pattern lock spares neither: without op names it keeps the zeros of every weight that has some.

    Raises:
        UserError: An op name matches no layer, or nothing is left.
    """
    weights = {
        name: [f"{name}.{own}" if name else own for own in _weights(name, module, entry)]
        for name, module in model.named_modules()
    }
    kinds = {name: own for name, own in weights.items() if own}
    for expression in entry.op_names:
        if not any(compile_expression(expression).search(name) for name in kinds):
            near = difflib.get_close_matches(expression, kinds, n=2, cutoff=0.0)
            raise UserError(
                f"op_names: {expression!r} matches none of the {len(kinds)} layers; "
                f"did you mean {' or '.join(map(repr, near))}?"
            )
    _say_unmatched(entry, model)
    chosen = [n for n in kinds if not entry.op_names or _matches(n, entry.op_names)]
    chosen = [n for n in chosen if not _matches(n, entry.excluded_op_names)]
    last, lock = _classifier(model), entry.pruning_type == "pattern_lock"
    if last in chosen and last not in entry.op_names and not lock:
        say(f"{last} is the classifier and stays dense; to prune it, put its name into op_names")
        chosen.remove(last)
    names = [weight for name in chosen for weight in kinds[name]]
    for weight, embedding in shared_with_embedding(model).items():
        named = weight.removesuffix(".weight") in entry.op_names
        if weight in names and not named and not lock:
            say(
                f"{weight} is shared with the embedding {embedding} and stays dense; to prune it, "
                "put its name into op_names"
            )
            names.remove(weight)
    if lock and not entry.op_names and entry.pruning_op_types == _ALL_TYPES:
        listed = {id(model.get_parameter(name)) for name in names}
        found = [n for n in found_zeros(model) if not _matches(n, entry.excluded_op_names)]
        names += [name for name in found if id(model.get_parameter(name)) not in listed]
    if not entry.op_names:
        _say_rest(entry, model, kinds)
    if entry.pattern == "mha" and not lock:
        known = {name for found in find_attention(model) for name in found.patterns}
        names = [name for name in names if name in known]
    if not names:
        raise UserError(
            f"op_names {list(entry.op_names)}, excluded_op_names {list(entry.excluded_op_names)} "
            f"and pattern {entry.pattern} leave no layer to prune"
        )
    return tuple(names)


def _weights(name: str, module: nn.Module, entry: OpPruning) -> list[str]:
    """Weights of a module of one of the types; of an embedding only where its type is named."""
    if not any(part in type(module).__name__ for part in entry.pruning_op_types):
        return []
    found = [attribute for attribute, _, _ in kinds_of(name, module)]
    looked_up = isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return found or (["weight"] if looked_up else [])


def _say_unmatched(entry: OpPruning, model: nn.Module) -> None:
    """Name exclusions that exclude nothing, which may be misspelt."""
    for expression in entry.excluded_op_names:
        if not any(
            compile_expression(expression).search(name) for name, _ in model.named_modules()
        ):
            say(f"excluded_op_names: {expression!r} matches no module, so it keeps nothing dense")


def _say_rest(entry: OpPruning, model: nn.Module, kinds: Mapping[str, list[str]]) -> None:
    """Name prunable weights of other types."""
    mine = {id(model.get_parameter(name)) for own in kinds.values() for name in own}
    rest = [n for n in default_names(model) if id(model.get_parameter(n)) not in mine]
    if rest:
        more = f" and {len(rest) - 5} more" if len(rest) > 5 else ""
        say(
            f"pruning_op_types {list(entry.pruning_op_types)} leave out {', '.join(rest[:5])}{more}"
        )


def _matches(name: str, expressions: Iterable[str]) -> bool:
    return any(compile_expression(expression).search(name) for expression in expressions)


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
    if target < entry.target_sparsity:
        say(
            f"target_sparsity {entry.target_sparsity}: max_sparsity_ratio_per_op allows {target}, "
            "which is the target now; raise it to prune more"
        )
    return Sparsifier(
        model,
        settings,
        ratios=dict.fromkeys(names, target),
        total_steps=total,
        keep_zeros=True if entry.resume_from_pruned_checkpoint else None,
    )


def _schedule(entry: OpPruning, model: nn.Module, names: tuple[str, ...]) -> Schedule:
    """Updates at start_step, start_step + frequency ...; the last that fits is on target."""
    length = (entry.end_step - entry.start_step) // entry.pruning_frequency
    end = entry.start_step + length * entry.pruning_frequency
    target = min(entry.target_sparsity, entry.max_sparsity_ratio_per_op)
    if not length and entry.start_step < entry.end_step:
        say(
            f"pruning_frequency {entry.pruning_frequency}: no second update fits between "
            f"start_step {entry.start_step} and end_step {entry.end_step}, so all weights go at "
            "once"
        )
    held = 0.0
    if entry.resume_from_pruned_checkpoint:
        weights = [model.get_parameter(name) for name in names]
        held = sum(map(count_zeros, weights)) / sum(weight.numel() for weight in weights)
    if not length or held >= target:
        return OneShotSchedule(entry.start_step)
    schedule = build_schedule(
        entry.sparsity_decay_type, begin=entry.start_step, end=end, target=target, initial=held
    )
    return BeyondHeld(schedule, held / target) if held else schedule
