"""Neural Compressor 2.x's `WeightPruningConfig`, by its names and defaults. Free of torch."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ws_learner.compat.values import boolean, fraction, number, text, whole
from ws_learner.core import UserError, check_settings, compile_expression, say, shown_repr

__all__ = ["OpPruning", "PruningType", "WeightPruningConfig"]

PruningType = Literal["magnitude", "gradient", "snip", "snip_momentum", "pattern_lock"]
_TYPES: tuple[str, ...] = get_args(PruningType)
_ABSENT = ("block_mask", "retrain_free", "sparse_gpt", "progressive")


@dataclass(frozen=True, kw_only=True)
class OpPruning:
    """Pruning settings of the layers that one entry of `pruning_configs` names.

    Attributes:
        target_sparsity: Share of zeros over these layers, in [0, 1).
        pruning_type: The criterion, or `pattern_lock`: zeros that are there stay.
        pattern: "4x1", "2:4" (theirs: zeros of M), "channelx1", "1xchannel", "mha" ...
        op_names: Regular expressions looked for in module names; none means all.
        excluded_op_names: Such expressions of modules that stay dense.
        start_step: Optimizer steps before the first update, which prunes nothing yet.
        end_step: The ramp ends here; equal to start_step everything goes at once.
        pruning_scope: `global` compares the units of all these layers, `local` of one.
        pruning_frequency: Optimizer steps between updates.
        min_sparsity_ratio_per_op: Least sparsity of a layer under `global`.
        max_sparsity_ratio_per_op: Largest; the target is never above it.
        sparsity_decay_type: Shape of the ramp.
        pruning_op_types: Parts of the class names of layers to prune.
        criterion_reduce_type: How scores are pooled over a unit.
        reg_type: `group_lasso` adds its force, of strength `parameters["reg_coeff"]`.
        parameters: See `reg_type`.
        resume_from_pruned_checkpoint: The ramp starts at the sparsity there is, which is kept.
    """

    target_sparsity: float = 0.9
    pruning_type: PruningType = "snip_momentum"
    pattern: str = "4x1"
    op_names: tuple[str, ...] = ()
    excluded_op_names: tuple[str, ...] = ()
    start_step: int = 0
    end_step: int = 0
    pruning_scope: Literal["global", "local"] = "global"
    pruning_frequency: int = 1
    min_sparsity_ratio_per_op: float = 0.0
    max_sparsity_ratio_per_op: float = 0.98
    sparsity_decay_type: Literal["exp", "cube", "cos", "linear"] = "exp"
    pruning_op_types: tuple[str, ...] = ("Conv", "Linear")
    criterion_reduce_type: Literal["mean", "sum", "max"] = "mean"
    reg_type: Literal["group_lasso"] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    resume_from_pruned_checkpoint: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


class WeightPruningConfig:
    """Settings by the keywords of Neural Compressor 2.x, its documented calls unchanged.

    Example:
        >>> config = WeightPruningConfig([{"op_names": ["layer1.*"]}], target_sparsity=0.8)
        >>> config.pruning_configs[0].target_sparsity
        0.8

    Attributes:
        pruning_configs: One `OpPruning` for each entry, the shared settings filled in.
    """

    def __init__(
        self, pruning_configs: Iterable[Mapping[str, Any]] = ({},), **settings: Any
    ) -> None:
        """Take the settings; entries of `pruning_configs` override the keywords.

        Args:
            pruning_configs: A mapping for each set of layers.
            settings: The attributes of `OpPruning`, for entries that do not have them; also
                `low_memory_usage` and `backend`, which have no effect. None is not given.

        Raises:
            UserError: Names that are unknown and values of a wrong type or out of range; all of
                them at once, with the nearest names.
        """
        problems: list[str] = []
        shared = _read(settings, problems, where="")
        entries = list(pruning_configs) or [{}]
        made = []
        for number_, entry in enumerate(entries):
            where = f"pruning_configs[{number_}]: " if len(entries) > 1 or entry else ""
            merged = {**shared, **_read(entry, problems, where=where)}
            merged |= _plain_type(merged, where=where)
            made.append(_checked(OpPruning(**merged), problems, where=where))
        if problems:
            unique = list(dict.fromkeys(problems))
            head = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
            raise UserError(f"WeightPruningConfig: {head}\n  " + "\n  ".join(unique))
        self.pruning_configs: tuple[OpPruning, ...] = tuple(made)

    def __repr__(self) -> str:
        return f"WeightPruningConfig({list(self.pruning_configs)!r})"


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):  # a plain string would be taken for its letters
        raise TypeError
    return tuple(text(item) for item in value)


def _expressions(value: Any) -> tuple[str, ...]:
    found = _words(value)
    for expression in found:
        compile_expression(expression)
    return found


def _steps(value: Any) -> int:
    if whole(value) < 1:
        raise ValueError
    return int(value)


def _one_of(*allowed: str) -> tuple[Callable[[Any], Any], str]:
    def convert(value: Any) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return convert, "one of " + ", ".join(allowed)


def _type(value: Any) -> str:
    name = text(value).removesuffix("_progressive")
    if name not in _TYPES:
        raise ValueError
    return text(value)


def _parameters(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError
    coefficient = number(value.get("reg_coeff", 0.0))
    if set(value) - {"reg_coeff"} or not (math.isfinite(coefficient) and coefficient >= 0):
        raise ValueError
    return {"reg_coeff": coefficient}


_SHARE, _WHOLE = (fraction, "a share in [0, 1)"), (whole, "a whole number from 0")
_NAMES = (_expressions, "a list of regular expressions")
_ANY: tuple[Callable[[Any], Any], str] = (lambda value: value, "anything")
_READ: dict[str, tuple[Callable[[Any], Any], str]] = {
    "target_sparsity": _SHARE,
    "pruning_type": (
        _type,
        f"one of {', '.join(_TYPES)}, each also with _progressive; {', '.join(_ABSENT[:3])} and "
        "their like are not there",
    ),
    "pattern": (text, "a pattern such as 4x1"),
    "op_names": _NAMES,
    "excluded_op_names": _NAMES,
    "start_step": _WHOLE,
    "end_step": _WHOLE,
    "pruning_scope": _one_of("global", "local"),
    "pruning_frequency": (_steps, "a whole number of steps from 1"),
    "min_sparsity_ratio_per_op": _SHARE,
    "max_sparsity_ratio_per_op": _SHARE,
    "sparsity_decay_type": _one_of("exp", "cube", "cos", "linear"),
    "pruning_op_types": (_words, "a list of parts of class names"),
    "criterion_reduce_type": _one_of("mean", "sum", "max"),
    "reg_type": _one_of("group_lasso"),
    "parameters": (_parameters, "{'reg_coeff': number from 0}"),
    "resume_from_pruned_checkpoint": (boolean, "True or False"),
    "low_memory_usage": _ANY,
    "backend": _ANY,
}


def _read(given: Any, problems: list[str], *, where: str) -> dict[str, Any]:
    """The values that are given, not None, and right; the rest is noted."""
    if not isinstance(given, Mapping):
        problems.append(f"{where}{shown_repr(given)}: must be a mapping of settings")
        return {}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _READ:
            near = difflib.get_close_matches(str(key), _READ, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(_READ)}"
            problems.append(f"{where}unknown setting {shown_repr(key)}; {hint}")
            continue
        convert, wanted = _READ[key]
        try:
            made = None if value is None else convert(value)
        except (TypeError, ValueError, UserError):
            problems.append(f"{where}{key} {shown_repr(value)}: must be {wanted}")
            continue
        if made is not None and _READ[key] is not _ANY:
            values[key] = made
    return values


def _checked(entry: OpPruning, problems: list[str], *, where: str) -> OpPruning:
    """Note contradictions."""
    for low, high in (
        ("start_step", "end_step"),
        ("min_sparsity_ratio_per_op", "max_sparsity_ratio_per_op"),
    ):
        if getattr(entry, low) > getattr(entry, high):
            problems.append(
                f"{where}{low} {getattr(entry, low)}: is above {high} {getattr(entry, high)}"
            )
    counted = re.fullmatch(r"(?:.*_)?(\d+)(?::|in)(\d+)", entry.pattern)
    if counted and entry.pruning_type != "pattern_lock":
        zeros, group = int(counted[1]), int(counted[2])
        if 0 < zeros < group and entry.target_sparsity > zeros / group:
            problems.append(
                f"{where}target_sparsity {entry.target_sparsity}: the pattern {entry.pattern} "
                f"allows {zeros / group:g} at most"
            )
    if entry.reg_type and not entry.parameters.get("reg_coeff"):
        problems.append(
            f"{where}reg_type {entry.reg_type}: needs parameters={{'reg_coeff': 0.006}}"
        )
    return entry


def _plain_type(settings: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The pruning type without `_progressive`, which is reported."""
    name = settings.get("pruning_type", "")
    plain = name.removesuffix("_progressive")
    if plain != name:
        say(f"{where}{name}: units go as a whole here, so {plain} is used")
    return {"pruning_type": plain} if name else {}
