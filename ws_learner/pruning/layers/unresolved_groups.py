"""Detect attentions and feed-forward networks without recognised heads or neurons."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning.layers.attention_names import HEAD_COUNTS
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.patterns.structured import UnitGroup

__all__ = ["find_unresolved", "refuse_unresolved"]

_ATTENDING = {"q", "k", "v", "o"}


def find_unresolved(
    model: nn.Module, groups: Sequence[UnitGroup], layers: Iterable[str]
) -> dict[str, list[str]]:
    """Modules that look like attentions or feed-forward networks -> their weights in no group.

    A projection is known by its role, or by a module around it that states a number of heads; a
    feed-forward network by two layers in succession, of which one undoes the other's width.

    Args:
        model: The network.
        groups: Those that are known.
        layers: Weights that are sparsified.
    """
    inside = {member.weight for group in groups for member in group.members}
    left = [name for name in layers if name not in inside]
    found: dict[str, list[str]] = {}
    roles, resolved = weight_roles(model), [group.name for group in groups if group.kind == "heads"]
    for name in left:
        around = _with_heads(model, name)
        known = any(f"{one}.".startswith(f"{around}.") for one in resolved)
        if set(roles.get(name, ())) & _ATTENDING or (around is not None and not known):
            found.setdefault(around or name.rpartition(".")[0], []).append(name)
    attending = {name for names in found.values() for name in names}
    return found | _feed_forward(model, [name for name in left if name not in attending])


def _with_heads(model: nn.Module, weight: str) -> str | None:
    """The innermost module around a weight that states a number of heads."""
    name = weight.rpartition(".")[0]
    while name := name.rpartition(".")[0]:
        module = model.get_submodule(name)
        if any(isinstance(getattr(module, count, None), int) for count in HEAD_COUNTS):
            return name
    return None


def _feed_forward(model: nn.Module, names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for first, second in itertools.pairwise(names):
        wide, narrow = model.get_parameter(first).shape, model.get_parameter(second).shape
        undone = len(wide) == 2 and wide == narrow[::-1] and wide[0] > wide[1]
        parent = _common(first, second)
        near = max(name.removeprefix(parent).count(".") for name in (first, second)) <= 3
        if undone and near:
            found.setdefault(parent.rstrip(".") or first, []).extend((first, second))
    return found


def _common(one: str, other: str) -> str:
    """Name of the module that holds both, with a dot at its end."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    shared = []
    for mine, theirs in pairs:
        if mine != theirs:
            break
        shared.append(mine)
    return "".join(f"{part}." for part in shared)


def refuse_unresolved(model: nn.Module, groups: Sequence[UnitGroup], layers: Iterable[str]) -> None:
    """Refuse to prune some attentions and feed-forward networks by units, and others not.

    Raises:
        UserError: There are such; some are named.
    """
    found = find_unresolved(model, groups, layers)
    if not found:
        return
    examples = "; ".join(f"{name} ({', '.join(names)})" for name, names in [*found.items()][:2])
    raise UserError(
        f"structured masking: heads or neurons of {len(found)} modules of {type(model).__name__} "
        f"could not be found by their names: {examples}. Give groups of your own in Python "
        "(`movement_of(groups=)`, `crop(groups=)`), leave these layers out (ignored_scopes, "
        "`exclude`), or prune single weights (enable_structured_masking false, `pattern` "
        "unstructured)"
    )
