"""Settings that each method reads, and notices about settings without effect. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.pattern_syntax import parse_pattern_spec
from ws_learner.config.registries import METHODS, SCHEDULES

__all__ = ["conflicting_settings", "unused_settings"]

_DECAY = ("mdgf_beta", "mdgf_zero_at", "mdgf_gradient")


def unused_settings(config: WeightSparseConfig, given: Collection[str]) -> tuple[str, ...]:
    """A line for each setting that was given and has no effect.

    Args:
        config: All settings.
        given: Names of those that the user chose.
    """
    read = METHODS[config.ws_method].settings
    of_methods = {name for method in METHODS.values() for name in method.settings}
    idle = {
        name: f"`ws_method` {config.ws_method} does not read it"
        for name in of_methods.difference(read)
    }
    for name, why in _overruled(config):
        idle.setdefault(name, why)
    lines = (f"`{name}` {getattr(config, name)}: no effect; {idle[name]}" for name in idle)
    return tuple(sorted(line for name, line in zip(idle, lines, strict=True) if name in given))


def _overruled(config: WeightSparseConfig) -> Iterator[tuple[str, str]]:
    """Settings that the method reads, but for another setting."""
    schedule = SCHEDULES[config.ws_schedule]
    if not schedule.exponent:
        yield "ws_prune_ratio_exp", f"`ws_schedule` {config.ws_schedule} has no exponent"
    if schedule.once:
        for name in ("ws_mask_update_step", "ws_update_frequency"):
            yield name, f"`ws_schedule` {config.ws_schedule} updates masks once"
    elif config.ws_update_frequency is not None:
        yield "ws_mask_update_step", "`ws_update_frequency` takes its place"
    if parse_pattern_spec(config.pattern_spelling).kind == "unstructured":
        yield "ws_criterion_pool", "single weights are not pooled"
        yield "ws_remainder", "single weights fit every layer"
    if config.ws_method == "mdgf" and config.mdgf_decay == "step":
        for name in ("mdgf_beta", "mdgf_zero_at"):
            yield name, "`mdgf_decay` step has no curve"
    if config.ws_method == "sdgf" and config.sdgf_mask_decay == "step":
        for name in _DECAY:
            yield name, "`sdgf_mask_decay` step has no curve"


def conflicting_settings(config: WeightSparseConfig, given: Collection[str]) -> Iterator[str]:
    """A line for each pair of settings that were both given and exclude each other."""
    if {"mdgf_beta", "mdgf_zero_at"} <= set(given):
        yield "`mdgf_beta` and `mdgf_zero_at` both say how fast D falls: leave one out"
    if config.ws_budget is not None and "ws_prune_ratio" in given:
        yield (
            f"`ws_budget` {config.ws_budget}: takes the place of `ws_prune_ratio` "
            f"{config.ws_prune_ratio:g}; leave one out"
        )
    spelling = parse_pattern_spec(config.pattern_spelling)
    by_itself = config.ws_prune_ratio_prtl == "given" and not config.ws_ratios
    if by_itself and spelling.parts and spelling.sets_ratios and "ws_prune_ratio" in given:
        shares = {part.fixed_ratio or 0.0 for _, part in spelling.parts}
        if any(abs(config.ws_prune_ratio - share) > 1e-6 for share in shares):
            zero = ", ".join(f"{share:g}" for share in sorted(shares))
            yield (
                f"`ws_prune_ratio` {config.ws_prune_ratio}: the pattern {spelling} makes {zero} "
                "of the layers it names zero; leave the ratio out, or name a protocol"
            )
