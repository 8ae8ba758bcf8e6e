"""The layer table: every prunable tensor of a network, in the order of a real forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import Tensor, nn

from envs import LayerRow
from ws_learner.core import UserError, say
from ws_learner.pruning.layers.forward_order import KINDS, Found, in_forward_order, weight_name
from ws_learner.pruning.layers.roles import weight_roles

__all__ = ["layer_table", "modules_by_weight", "parameter_of"]

_MOST_NAMES = 20


def layer_table(
    model: nn.Module,
    inputs: Tensor,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    exempt: Sequence[str] = (),
) -> tuple[LayerRow, ...]:
    """List the weights of all Conv1d, Conv2d and Linear modules, subclasses too.

    One forward pass in eval mode gives order and cost; the model is left as it was. A weight that
    several modules share has one row, at its first use, with the cost of all. A weight that the
    pass does not use comes last, with 0 MACs, and is reported. The head is the Linear called last,
    if no convolution follows it, and every Linear that takes one vector for a whole sentence, the
    earlier ones having taken a vector for each word (BERT's pooler).

    Args:
        model: The network.
        inputs: (B, ...) example inputs on the model's device; only their shape matters.
        include: Which rows to list: shell patterns (`*`, `?`, `[ab]`; `*` crosses dots) for the
            name of the parameter (`layer1.0.conv1.weight`) or of its module (`layer1.0.conv1`).
        exclude: Which of these not to list; such weights are neither pruned nor counted.
        exempt: Which rows to mark as exempt: they stay dense, and are counted.

    Raises:
        UserError: If a pattern matches nothing, or if no row is left.
    """
    found = _find(model)
    _check(model, found, include=include, exclude=exclude, exempt=exempt)
    rows = [
        entry
        for entry in in_forward_order(model, inputs, found)
        if entry.matches(include) and not entry.matches(exclude)
    ]
    unused = [entry.name for entry in rows if not entry.macs]
    if unused:
        say(f"layer table: the forward pass does not use {_some(unused)}: listed last, 0 MACs")
    return tuple(_row(entry, exempt=entry.matches(exempt)) for entry in rows)


def parameter_of(model: nn.Module, name: str) -> nn.Parameter:
    """Return the parameter that a row of the layer table names.

    Raises:
        UserError: If the model has no such parameter.
    """
    try:
        return model.get_parameter(name)
    except AttributeError:
        names = [known for known, _ in model.named_parameters()]
        raise UserError(f"layer {name!r}: no such parameter{_nearest(name, names)}") from None


def modules_by_weight(model: nn.Module, layers: Sequence[LayerRow]) -> dict[str, nn.Module]:
    """Map the name of each row to the module that holds this weight, in the order of the rows.

    Raises:
        UserError: If the model lacks one of these parameters.
    """
    modules = {}
    for row in layers:
        parameter_of(model, row.name)
        modules[row.name] = model.get_submodule(row.name.rpartition(".")[0])
    return modules


def _find(model: nn.Module) -> list[Found]:
    """List the prunable tensors in the order of definition."""
    found: dict[int, Found] = {}
    roles = weight_roles(model)
    # With duplicates: a module or a weight that has two names answers to both.
    for name, module in model.named_modules(remove_duplicate=False):
        kind = next((kind for cls, kind in KINDS.items() if isinstance(module, cls)), None)
        if kind is None:
            continue
        weight = module._parameters.get("weight")
        if weight is None:
            say(f"layer table: {name} is left out: its weight is computed from other parameters")
        elif isinstance(weight, nn.UninitializedParameter):
            raise UserError(f"layer {name!r}: it is lazy; call the model once before pruning it")
        else:
            role = "".join(roles.get(weight_name(name), ("ff",)))
            new = Found(parameter=weight, kind=kind, modules=[], role=role)
            found.setdefault(id(weight), new).modules.append(name)
    return list(found.values())


def _row(entry: Found, *, exempt: bool) -> LayerRow:
    return LayerRow(
        name=entry.name,
        kind=entry.kind,
        role=entry.role,
        shape=tuple(entry.parameter.shape),
        weights=entry.parameter.numel(),
        macs=entry.macs,
        exempt=exempt,
    )


def _check(
    model: nn.Module,
    found: Sequence[Found],
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    exempt: Sequence[str],
) -> None:
    """Refuse a pattern that matches nothing, and patterns that leave nothing."""
    names = [name for entry in found for name in entry.names]
    for option, patterns in (("include", include), ("exclude", exclude), ("exempt", exempt)):
        for pattern in patterns if found else ():
            if not any(entry.matches([pattern]) for entry in found):
                raise UserError(
                    f"`{option}` {pattern!r}: matches no layer{_nearest(pattern, names)}"
                )
    if not any(entry.matches(include) and not entry.matches(exclude) for entry in found):
        looked_at = [
            f"{name or 'the model itself'} ({type(module).__name__})"
            for name, module in model.named_modules()
            if module._parameters
        ]
        wanted = "/".join(cls.__name__ for cls in KINDS)
        raise UserError(
            f"layer table: nothing to prune. Looked for {wanted} in {_some(looked_at)}; "
            f"`include`: {_some(include)}; `exclude`: {_some(exclude)}"
        )


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """Name the most similar layer or group of layers, to follow a complaint."""
    parts = [name.split(".") for name in names]
    groups = {".".join(part[:end]) + ".*" for part in parts for end in range(1, len(part) - 1)}
    near = difflib.get_close_matches(pattern, [*names, *sorted(groups)], n=1, cutoff=0.0)
    return f"; the nearest is {near[0]!r}" if near else ""


def _some(names: Sequence[str]) -> str:
    """Join the first few names and say how many more there are."""
    more = len(names) - _MOST_NAMES
    text = ", ".join(names[:_MOST_NAMES]) or "nothing"
    return f"{text} and {more} more" if more > 0 else text
