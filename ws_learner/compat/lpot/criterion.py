"""The `criterion` of an LPOT file's `train` section. Free of torch."""

from __future__ import annotations

from typing import Any

from ws_learner.compat.lpot.schema import CriterionSection, LpotDistillation
from ws_learner.compat.values import above_zero, number
from ws_learner.compat.yaml_with_lines import Problems, Table
from ws_learner.core import shown_repr, suggest

__all__ = ["only_entry", "read_criterion"]


def only_entry(table: Table, key: str, known: Any, problems: Problems) -> tuple[str, Table] | None:
    """The single entry of a mapping such as `optimizer: {SGD: {...}}`; None, noted, if wrong."""
    line = table.lines.get(key, table.line)
    chosen = problems.table(table, key)
    if chosen is None or len(chosen) != 1:
        problems.add(line, f"{key}: must name exactly one of {', '.join(known)}")
        return None
    ((name, settings),) = chosen.items()
    if name not in known:
        same = [word for word in known if word.lower() == name.lower()]
        hint = f"did you mean {same[0]}?" if same else suggest(name, known)
        problems.add(chosen.lines[name], f"{key} {name}: {hint}")
        return None
    if settings is None:
        settings = Table()
        settings.line, settings.lines, settings.tag = chosen.lines[name], {}, ""
    if not isinstance(settings, Table):
        problems.add(chosen.lines[name], f"{name}: must hold settings, one a line")
        return None
    return name, settings


def read_criterion(table: Table, problems: Problems) -> CriterionSection | None:
    """Read `criterion`; None if it is missing or wrong, which is noted."""
    known = ("CrossEntropyLoss", "KnowledgeDistillationLoss")
    found = only_entry(table, "criterion", known, problems)
    if found is None:
        return None
    name, settings = found
    if name == "KnowledgeDistillationLoss":
        return CriterionSection(distillation=_distillation(settings, problems))
    problems.keys(settings, ("reduction", "from_logits"), where="CrossEntropyLoss")
    given = settings.get("reduction")
    reduction = "mean" if "reduction" not in settings else str(given).lower()
    if reduction not in ("none", "sum", "mean"):
        problems.add(
            settings.lines["reduction"],
            f"reduction {shown_repr(given)}: allowed are None, sum, mean",
        )
        return None
    return CriterionSection(reduction=reduction)  # type: ignore[arg-type]


def _distillation(settings: Table, problems: Problems) -> LpotDistillation:
    problems.keys(settings, ("temperature", "loss_types", "loss_weights"), where="distillation")
    read = {
        "temperature": (above_zero, "a number above 0"),
        "loss_types": (_loss_types, "[CE, CE] or [CE, KL]: for the targets, for the teacher"),
        "loss_weights": (_loss_weights, "two numbers from 0 that sum to 1"),
    }
    values = {
        key: problems.value(settings, key, convert, default=None, wanted=wanted)
        for key, (convert, wanted) in read.items()
    }
    values["kind"] = values.pop("loss_types")
    return LpotDistillation(**{key: value for key, value in values.items() if value is not None})


def _loss_types(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    if value[0] != "CE" or value[1] not in ("CE", "KL"):
        raise ValueError
    return str(value[1])


def _loss_weights(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    weights = tuple(number(item) for item in value)
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-9:
        raise ValueError
    return weights
