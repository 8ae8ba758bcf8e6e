"""Reads LPOT's and Neural Compressor 1.x's pruning YAML. Free of torch.

Differences from LPOT, all deliberate: a local value wins by being there (LPOT let a local 0 fall
back to the global value); `frequency` among the global values is obeyed; `reduction: None` is
averaged; every mistake in the file is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from ws_learner.compat.lpot.pattern import spelled_pattern
from ws_learner.compat.lpot.schema import LpotConf, Pruner, PruneType
from ws_learner.compat.lpot.train import read_train
from ws_learner.compat.values import above_zero, fraction, from_zero, read_config_text, text, whole
from ws_learner.compat.yaml_with_lines import Problems, Rows, Table, read_yaml
from ws_learner.core import AnyPath, UserError, as_path, say, shown_repr
from ws_learner.pruning import EpochFormula

__all__ = ["is_lpot", "parse_lpot", "read_lpot"]

_TOP = ("pruning", "model", "device", "evaluation", "tuning", "quantization", "version")
_GLOBAL = (
    *("initial_sparsity", "target_sparsity", "start_epoch", "end_epoch"),
    *("frequency", "formula", "pruners"),
)
_PRUNER = (
    *("start_epoch", "end_epoch", "initial_sparsity", "target_sparsity", "update_frequency"),
    *("prune_type", "method", "names", "parameters", "pattern", "formula"),
)
_PARAMETERS = ("alpha", "pattern")
_TARGET = 0.97
_TYPES: tuple[PruneType, ...] = get_args(PruneType)
_FORMULAS = "new (since Neural Compressor 1.13) or old (before)"

Value = Callable[..., Any]


def is_lpot(content: str) -> bool:
    """Whether a config file is of this dialect: it has `pruning:` at the top level."""
    return any(line.split("#")[0].rstrip() == "pruning:" for line in content.splitlines())


def read_lpot(path: AnyPath) -> LpotConf:
    """Read a file; see `parse_lpot`.

    Raises:
        UserError: The file cannot be read, or its content is refused.
    """
    path = as_path(path)
    return parse_lpot(read_config_text(path), path=path)


def parse_lpot(content: str, *, path: AnyPath | None = None) -> LpotConf:
    """Understand the `pruning` section of a YAML document.

    Raises:
        UserError: It is no YAML, or settings are unknown, of a wrong type or out of range; one
            line for each, with its line number.
    """
    path = None if path is None else as_path(path)
    name = f"`config` {path}" if path else "pruning config"
    top = read_yaml(content, name=name, tags=("!Pruner",))
    if not isinstance(top, Table) or "pruning" not in top:
        raise UserError(f"{name}: has no `pruning:` section")
    problems = Problems(name)
    problems.keys(top, _TOP, where="top level")
    pruning = problems.table(top, "pruning") or Table()
    if pruning:
        problems.keys(pruning, ("train", "approach"), where="pruning")
    train = problems.table(pruning, "train") if pruning else None
    made = read_train(train, problems) if train else None
    compression = _compression(pruning, problems)
    values = _globals(compression, problems) if compression else {}
    problems.raise_any()
    for line in _without_effect(compression or Table()):
        say(f"warning: {name}: {line}")
    return LpotConf(path=path, train=made, **values)


def _compression(pruning: Table, problems: Problems) -> Table | None:
    approach = problems.table(pruning, "approach") if pruning else None
    if approach is None:
        return None
    if "activation_compression" in approach:
        problems.add(
            approach.lines["activation_compression"],
            "activation_compression: activations are not pruned here (LPOT announced it and never "
            "had it); remove this section and prune weights by weight_compression",
        )
    allowed = ("weight_compression", "activation_compression")
    problems.keys(approach, allowed, where="approach")
    return problems.table(approach, "weight_compression")


def _globals(table: Table, problems: Problems) -> dict[str, Any]:
    problems.keys(table, _GLOBAL, where="weight_compression")
    read: dict[str, tuple[Value, Any, str]] = {
        "start_epoch": (whole, 0, "a whole number from 0"),
        "end_epoch": (whole, 4, "a whole number from 0"),
        "initial_sparsity": (fraction, 0.0, "a share in [0, 1)"),
        "target_sparsity": (fraction, _TARGET, "a share in [0, 1)"),
        "frequency": (above_zero, 1.0, "a number above 0, of epochs"),
        "formula": (_formula, "new", _FORMULAS),
    }
    values = {
        key: problems.value(table, key, convert, default=default, wanted=wanted)
        for key, (convert, default, wanted) in read.items()
    }
    entries = table.get("pruners")
    if entries is None:
        pruners = [Pruner(line=table.line)]
    elif isinstance(entries, Rows) and entries:
        pruners = [
            _pruner(entry, problems, line=line)
            for entry, line in zip(entries, entries.lines, strict=True)
        ]
    else:
        problems.add(table.lines["pruners"], "pruners: must be a list of at least one - !Pruner")
        pruners = []
    for pruner in pruners:
        _check_order(pruner, values, problems)
    return {**values, "pruners": tuple(pruners)}


def _without_effect(table: Table) -> Iterator[str]:
    """What the file leaves open or says in vain, of a file that is right."""
    if not table:
        yield (
            "pruning: has no approach: weight_compression:, so all weights are pruned to "
            f"LPOT's default target, {_TARGET}"
        )
    if "target_sparsity" in table and table["target_sparsity"] is None:
        yield (
            f"line {table.lines['target_sparsity']}: target_sparsity is empty: LPOT's default, "
            f"{_TARGET}, is used"
        )
    for entry in table.get("pruners") or ():
        alpha = (entry.get("parameters") or {}).get("alpha")
        if alpha is not None and not _is_lasso(entry):
            yield (
                f"line {entry.line}: parameters: alpha {alpha} has no effect without prune_type: "
                "group_lasso"
            )


def _is_lasso(entry: Table) -> bool:
    return str(entry.get("prune_type", "")).replace("_", "").lower() == "grouplasso"


def _pattern(value: Any) -> str:
    spelled_pattern(text(value))
    return text(value)


def _formula(value: Any) -> str:
    if value not in get_args(EpochFormula):
        raise ValueError
    return str(value)


def _pruner(entry: Any, problems: Problems, *, line: int) -> Pruner:
    if not isinstance(entry, Table):
        problems.add(
            line, f"pruners: {shown_repr(entry)} is no pruner; write - !Pruner and its settings"
        )
        return Pruner(line=line)
    problems.keys(entry, _PRUNER, where="!Pruner")

    def read(key: str, convert: Value, wanted: str) -> Any:
        return problems.value(entry, key, convert, default=None, wanted=wanted)

    method = read("method", text, "per_tensor") or "per_tensor"
    if method != "per_tensor":
        problems.add(
            entry.lines["method"],
            f"method {method}: only per_tensor is there (per_channel never worked in LPOT); for "
            "whole channels use pattern: 1xchannel",
        )
    return Pruner(
        start_epoch=read("start_epoch", whole, "a whole number from 0"),
        end_epoch=read("end_epoch", whole, "a whole number from 0"),
        initial_sparsity=read("initial_sparsity", fraction, "a share in [0, 1)"),
        target_sparsity=read("target_sparsity", fraction, "a share in [0, 1)"),
        update_frequency=read("update_frequency", above_zero, "a number above 0, of epochs"),
        prune_type=_prune_type(entry, problems),
        method=method,
        names=tuple(read("names", _names, "a list of parameter names") or ()),
        parameters=_parameters(entry, problems),
        pattern=read("pattern", _pattern, "a pattern such as 4x1"),
        formula=read("formula", _formula, _FORMULAS),
        line=line,
    )


def _prune_type(entry: Table, problems: Problems) -> PruneType:
    given = entry.get("prune_type")
    if given is None:
        return "basic_magnitude"
    for known in _TYPES:  # LPOT knows them without underscores as well
        if str(given).replace("_", "").lower() == known.replace("_", ""):
            return known
    problems.add(
        entry.lines["prune_type"],
        f"prune_type {shown_repr(given)}: allowed are {', '.join(_TYPES)}",
    )
    return "basic_magnitude"


def _names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError
    return [text(name) for name in value]


def _parameters(entry: Table, problems: Problems) -> dict[str, Any]:
    table = problems.table(entry, "parameters")
    if _is_lasso(entry) and (table is None or table.get("alpha") is None):
        problems.add(entry.line, "group_lasso needs parameters: {alpha: 0.006} or the like")
    if table is None:
        return {}
    problems.keys(table, _PARAMETERS, where="parameters")
    alpha = problems.value(table, "alpha", from_zero, default=None, wanted="a number from 0")
    wanted = "a pattern such as 2x1"
    pattern = problems.value(table, "pattern", _pattern, default=None, wanted=wanted)
    found = {"alpha": alpha, "pattern": pattern}
    return {key: value for key, value in found.items() if value is not None}


def _check_order(pruner: Pruner, values: dict[str, Any], problems: Problems) -> None:
    for low, high in (("start_epoch", "end_epoch"), ("initial_sparsity", "target_sparsity")):
        least, most = (
            values[key] if getattr(pruner, key) is None else getattr(pruner, key)
            for key in (low, high)
        )
        if least > most:
            problems.add(pruner.line, f"!Pruner: {low} {least} is above {high} {most}")
