"""The rule of what is prunable, for the layer table and for every other interface."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from ws_learner.core import UserError, say
from ws_learner.pruning.layers.forward_order import Found, weight_name
from ws_learner.pruning.layers.lazy import refuse_lazy
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.layers.watched import Watched
from ws_learner.pruning.layers.weight_kinds import KINDS, is_embedding, kinds_of, layout_of
from ws_learner.pruning.patterns.layout import Layout

__all__ = [
    "default_names",
    "find_prunable",
    "further_tensors",
    "nearest_name",
    "parameter_of",
    "shared_with_embedding",
    "some_names",
    "stacks_of",
    "unlisted_weights",
    "watched_weights",
]

_MOST_NAMES = 20


def find_prunable(model: nn.Module, *, quiet: bool = False) -> list[Found]:
    """List the weights of known kinds in the order of definition; see `kinds_of`.

    Raises:
        UserError: A module is lazy and has no weights yet.
    """
    refuse_lazy(model)
    found: dict[int, Found] = {}
    roles = weight_roles(model)
    # With duplicates: a module or a weight that has two names answers to both.
    for name, module in model.named_modules(remove_duplicate=False):
        if not quiet:
            _check_weight(name, module)
        for attribute, kind, layout in kinds_of(name, module):
            weight = module._parameters[attribute]
            assert weight is not None
            full = f"{name}.{attribute}" if name else attribute
            role = "".join(roles.get(full, ("ff",) if kind == "experts" else ("other",)))
            new = Found(parameter=weight, kind=kind, layout=layout, role=role)
            _add(found.setdefault(id(weight), new), full, name, module)
    for name, module in model.named_modules(remove_duplicate=False):
        if is_embedding(module) and (entry := found.get(id(module.weight))):
            entry.embedding = entry.embedding or weight_name(name)
            if weight_name(name) not in entry.parameters:
                _add(entry, weight_name(name), name, module)
    return list(found.values())


def _check_weight(name: str, module: nn.Module) -> None:
    """Say that a layer's weight is computed."""
    if not isinstance(module, tuple(KINDS)):
        return
    weight = module._parameters.get("weight")
    if weight is None:
        say(f"layer table: {name} is left out: its weight is computed from other parameters")


def _add(entry: Found, parameter: str, holder: str, module: nn.Module) -> None:
    entry.parameters.append(parameter)
    entry.modules.append(holder)
    called = isinstance(module, nn.RNNBase | nn.RNNCellBase)
    called |= parameter.rpartition(".")[2] == "weight" and not is_embedding(module)
    if called and module not in entry.callers and entry.kind not in ("tensor", "experts"):
        entry.callers.append(module)


def further_tensors(
    model: nn.Module, found: Sequence[Found], patterns: Sequence[str]
) -> list[Found]:
    """Tensors of no known kind, of two axes at least, that the user names.

    A pattern names them by the full name of the parameter, or if it matches nothing else.
    """
    found = [entry for entry in found if entry.kind not in ("tensor", "embedding")]
    loose = list(_loose(model, found))
    named = []
    for pattern in patterns:
        only = not any(entry.matches([pattern]) for entry in found)
        named += [
            entry
            for entry in loose
            if pattern in entry.parameters or (only and entry.matches([pattern]))
        ]
    return list(dict.fromkeys(named))


def stacks_of(model: nn.Module, found: Sequence[Found]) -> list[Found]:
    """Tensors of three axes and no known kind, which a forward pass may show to be stacks."""
    loose = [entry for entry in _loose(model, found) if entry.parameter.dim() == 3]
    stacks = [entry for entry in loose if min(entry.parameter.shape) > 1]
    for entry in stacks:
        entry.kind, entry.role = "experts", "ff"
    return stacks


def watched_weights(model: nn.Module, names: Sequence[str]) -> list[Watched]:
    """The named weights, ready to be observed.

    Raises:
        UserError: The model lacks one of them.
    """
    entries: dict[str, Found] = {}
    found = find_prunable(model, quiet=True)
    for entry in [*found, *_loose(model, found)]:
        entries |= dict.fromkeys(entry.parameters, entry)
    watched = []
    for name in names:
        parameter = parameter_of(model, name)
        known = entries.get(name)
        watched.append(
            Watched(
                name=name,
                parameter=parameter,
                kind=known.kind if known else "tensor",
                layout=layout_of(model, name),
                modules=known.callers if known else (),
            )
        )
    return watched


def parameter_of(model: nn.Module, name: str) -> nn.Parameter:
    """Return the parameter that a row of the layer table names.

    Raises:
        UserError: If the model has no such parameter.
    """
    try:
        return model.get_parameter(name)
    except AttributeError:
        names = [known for known, _ in model.named_parameters()]
        raise UserError(f"layer {name!r}: no such parameter{nearest_name(name, names)}") from None


def nearest_name(pattern: str, names: Sequence[str]) -> str:
    """Name the most similar layer or group of layers, to follow a complaint."""
    parts = [name.split(".") for name in names]
    groups = {".".join(part[:end]) + ".*" for part in parts for end in range(1, len(part) - 1)}
    near = difflib.get_close_matches(pattern, [*names, *sorted(groups)], n=1, cutoff=0.0)
    return f"; the nearest is {near[0]!r}" if near else ""


def _loose(model: nn.Module, found: Iterable[Found]) -> Iterator[Found]:
    """Tensors of two axes and more of which no entry tells."""
    known = {id(entry.parameter) for entry in found}
    loose: dict[int, Found] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for attribute, weight in module._parameters.items():
            if weight is None or isinstance(weight, nn.UninitializedParameter):
                continue
            if weight.dim() < 2 or id(weight) in known or attribute.endswith("bias"):
                continue
            looked_up = is_embedding(module)
            new = Found(
                parameter=weight,
                kind="embedding" if looked_up else "tensor",
                layout=Layout() if looked_up else Layout(""),
                role="embed" if looked_up else "other",
            )
            full = f"{name}.{attribute}" if name else attribute
            _add(loose.setdefault(id(weight), new), full, name, module)
    yield from loose.values()


def unlisted_weights(model: nn.Module, listed: Iterable[str]) -> dict[str, int]:
    """Parameters of two axes and more that are not listed, and their numbers of weights.

    Args:
        model: The network.
        listed: Names of parameters, such as those of a layer table.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    known = {id(parameters[name]) for name in listed}
    return {
        name: weight.numel()
        for name, weight in model.named_parameters()
        if not isinstance(weight, nn.UninitializedParameter)
        and weight.dim() > 1
        and id(weight) not in known
        and not name.endswith("bias")
    }


def default_names(model: nn.Module) -> tuple[str, ...]:
    """Weights that are pruned where the user names none: all of known kinds, as `layer_table` has.

    A weight that an embedding shares stays dense. What else is left out is said.
    """
    names = tuple(entry.name for entry in find_prunable(model) if not entry.embedding)
    left = unlisted_weights(model, names)
    if left and names:
        say(f"not pruned unless named: {some_names(list(left), 5)}")
    return names


def shared_with_embedding(model: nn.Module) -> dict[str, str]:
    """Every name of a layer's weight that an embedding shares -> the embedding's own."""
    shared = [entry for entry in find_prunable(model, quiet=True) if entry.embedding]
    return {name: entry.embedding for entry in shared for name in entry.parameters}


def some_names(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Join the first few names and say how many more there are."""
    more = len(names) - most
    text = ", ".join(names[:most]) or "nothing"
    return f"{text} and {more} more" if more > 0 else text
