"""Settings that each method reads, and notices about settings without effect. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.methods import MethodName
from ws_learner.config.pattern_syntax import parse_pattern_spec

__all__ = ["METHOD_SETTINGS", "conflicting_settings", "unused_settings"]

_WHERE = ("ws_pattern", "ws_location", "ws_qkv_pattern", "ws_sparse_dim", "ws_remainder")
_RAMP = (
    *("ws_schedule", "ws_initial_ratio", "ws_prune_ratio_exp", "ws_iter_ratio_beg"),
    *("ws_iter_ratio_end", "ws_mask_update_step", "ws_update_frequency", "ws_scope"),
)
_SCORED = (*_WHERE, *_RAMP, "ws_prune_ratio", "ws_criterion", "ws_criterion_pool")
_NM = (
    *(*_WHERE, "ws_prune_ratio"),
    *("nm_dense_epochs", "nm_fine_tune_epochs", "nm_fine_tune_mask"),
)
_DECAY = ("mdgf_beta", "mdgf_zero_at", "mdgf_gradient")

METHOD_SETTINGS: dict[MethodName, tuple[str, ...]] = {
    "gradual": _SCORED,
    "group_lasso": (*_SCORED, "group_lasso_alpha"),
    "gradient_sensitivity": _SCORED,
    "movement": (*_SCORED, "movement_score_lr", "movement_start", "movement_steps"),
    "pattern_lock": (),
    "srste": (*_NM, "srste_lambda", "srste_term"),
    "mdgf": (*_NM, *_DECAY, "mdgf_decay"),
    "sdgf": (*_NM, *_DECAY, "sdgf_decay", "sdgf_stages", "sdgf_mask_decay"),
}
"""Method -> the settings it reads of those that not every method reads."""
_OF_METHODS = {name for names in METHOD_SETTINGS.values() for name in names}


def unused_settings(config: WeightSparseConfig, given: Collection[str]) -> tuple[str, ...]:
    """A line for each setting that was given and has no effect.

    Args:
        config: All settings.
        given: Names of those that the user chose.
    """
    read = METHOD_SETTINGS[config.ws_method]
    idle = {
        name: f"`ws_method` {config.ws_method} does not read it"
        for name in _OF_METHODS.difference(read)
    }
    for name, why in _overruled(config):
        idle.setdefault(name, why)
    lines = (f"`{name}` {getattr(config, name)}: no effect; {idle[name]}" for name in idle)
    return tuple(sorted(line for name, line in zip(idle, lines, strict=True) if name in given))


def _overruled(config: WeightSparseConfig) -> Iterator[tuple[str, str]]:
    """Settings that the method reads, but for another setting."""
    if config.ws_schedule != "polynomial":
        yield "ws_prune_ratio_exp", f"`ws_schedule` {config.ws_schedule} has no exponent"
    if config.ws_schedule == "oneshot":
        for name in ("ws_mask_update_step", "ws_update_frequency"):
            yield name, "`ws_schedule` oneshot updates masks once"
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
