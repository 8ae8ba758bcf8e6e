"""NNCF's scopes: which layers of a network a pattern names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from ws_learner.compat.nncf.movement_schema import MovementSection
from ws_learner.compat.nncf.schema import NncfConf, Quantization
from ws_learner.core import Expression, UserError, compile_expression, say, shown_repr
from ws_learner.pruning import shared_with_embedding

__all__ = ["check_scopes", "matches", "names_of", "quantized_layers", "select_layers"]


def names_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Module name -> all names it answers to.

    These are the module's name (`bert.encoder.layer.0.output.dense`) and NNCF's scope string with
    class names, with and without NNCF's own prefix and operator
    (`BertForSequenceClassification/BertModel[bert]/.../NNCFLinear[dense]/linear_0`). A network of
    a subclass answers to the names of its base classes too.
    """
    roots = [
        kind.__name__
        for kind in type(model).__mro__
        if issubclass(kind, nn.Module) and kind is not nn.Module
    ]
    found = {}
    for name, module in model.named_modules():
        if not name:
            continue
        parts, at = [], model
        for attribute in name.split("."):
            at = at.get_submodule(attribute)
            parts.append(f"{type(at).__name__}[{attribute}]")
        ends = ["/".join(parts)]
        kind = type(module).__name__
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d):
            operator = kind.lower()
            wrapped = "/".join([*parts[:-1], f"NNCF{parts[-1]}"])
            ends += [f"{wrapped}/{operator}_0", wrapped, f"{ends[0]}/{operator}_0"]
        found[name] = (name, *(f"{root}/{end}" for root in roots for end in ends))
    return found


def matches(patterns: Iterable[str], names: Sequence[str]) -> bool:
    """Whether any pattern names the module: `{re}` and a regular expression, else exactly."""
    for pattern in patterns:
        if "{re}" in pattern:
            expression = _compiled(pattern)
            if any(expression.search(name) for name in names):
                return True
        elif pattern in names:
            return True
    return False


def _compiled(pattern: str) -> Expression:
    said = f"scope {shown_repr(pattern)}"
    return compile_expression(pattern.replace("{re}", ""), said=said)


def check_scopes(known: dict[str, tuple[str, ...]], scopes: dict[str, Sequence[str]]) -> None:
    """Check that every scope matches a layer.

    Raises:
        UserError: There are some; all are listed.
    """
    lacking = [
        f"{field} {pattern!r}"
        for field, patterns in scopes.items()
        for pattern in patterns
        if not any(matches([pattern], names) for names in known.values())
    ]
    if lacking:
        example = next(reversed(known.values()))
        raise UserError(
            "No match has been found among the model operations for the following ignored/target "
            f"scope definitions: {', '.join(lacking)}; mend them or set validate_scopes to false. "
            f"A layer is named like {' or '.join(example[:2])}"
        )


def select_layers(model: nn.Module, conf: NncfConf) -> dict[str, str]:
    """Weight -> spelling of its pattern, for the Linear layers that are sparsified.

    Raises:
        UserError: A scope names nothing, a layer is named by two structures or is frozen, or no
            layer is left.
    """
    part = conf.movement
    ignored = (*conf.ignored_scopes, *part.ignored_scopes)
    target = conf.target_scopes or part.target_scopes
    known = names_of(model)
    if part.validate_scopes:
        check_scopes(known, {"ignored_scopes": ignored, "target_scopes": target})
    chosen, shared = {}, shared_with_embedding(model)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name not in known:
            continue
        names = known[name]
        exact = [pattern for pattern in target if "{re}" not in pattern]
        if f"{name}.weight" in shared and not matches(exact, names):
            say(
                f"{name} shares its weight with an embedding and stays dense, unless target_scopes "
                "hold its full name"
            )
            continue
        if matches(ignored, names) or (target and not matches(target, names)):
            continue
        if not module.weight.requires_grad:
            raise UserError(
                f"Frozen layers are not allowed for movement sparsity: {name} does not train; "
                "unfreeze it or name it in ignored_scopes"
            )
        chosen[f"{name}.weight"] = _structure(part, name, names)
    if not chosen:
        raise UserError(
            "No sparsifiable layer found for movement sparsity algorithm: it takes Linear layers "
            "that target_scopes name and ignored_scopes do not"
        )
    _tell(part, known, chosen)
    return chosen


def _structure(part: MovementSection, name: str, names: Sequence[str]) -> str:
    found = [s for s in part.sparse_structure_by_scopes if matches(s.target_scopes, names)]
    if len(found) > 1:
        raise UserError(
            f"{name} is matched by multiple items in `sparse_structure_by_scopes`: "
            f"{' and '.join(str(list(s.target_scopes)) for s in found)}; let one of them name it"
        )
    return found[0].pattern if found else "unstructured"


def _tell(part: MovementSection, known: dict[str, tuple[str, ...]], chosen: dict[str, str]) -> None:
    """Report the sparsified layers and their patterns, and structures without a match."""
    kinds = sorted(set(chosen.values()))
    counts = [f"{list(chosen.values()).count(kind)} {kind}" for kind in kinds]
    say(f"movement sparsity: {len(chosen)} layers ({', '.join(counts)})")
    for structure in part.sparse_structure_by_scopes:
        for pattern in structure.target_scopes:
            if not any(matches([pattern], names) for names in known.values()):
                say(f"sparse_structure_by_scopes: {pattern!r} names no layer of this network")


def quantized_layers(model: nn.Module, conf: NncfConf, part: Quantization) -> list[str]:
    """Names of the Linear modules with quantised weights and inputs.

    Scopes may name operations that are not quantised here (additions, norms), so that they are
    not checked.
    """
    known = names_of(model)
    ignored = (*conf.ignored_scopes, *part.ignored_scopes)
    target = conf.target_scopes or part.target_scopes
    chosen = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name in known:
            names = known[name]
            if matches(ignored, names) or (target and not matches(target, names)):
                continue
            chosen.append(name)
    return chosen
