"""The layer table: every prunable tensor of a network, in the order of a real forward pass."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from envs import LayerRow
from ws_learner.core import Inputs, UserError, name_fits, refuse_bad_patterns, say, warn
from ws_learner.pruning.layers.forward_order import Found, in_forward_order
from ws_learner.pruning.layers.prunable import (
    find_prunable,
    further_tensors,
    nearest_name,
    parameter_of,
    some_names,
    stacks_of,
    unlisted_weights,
)
from ws_learner.pruning.layers.weight_kinds import KINDS, note_layout

__all__ = ["layer_table", "modules_by_weight", "parameter_of"]

_EVERYTHING = ("*",)


def layer_table(
    model: nn.Module,
    inputs: Inputs,
    *,
    include: Sequence[str] = _EVERYTHING,
    exclude: Sequence[str] = (),
    exempt: Sequence[str] = (),
    named: Sequence[str] = (),
) -> tuple[LayerRow, ...]:
    """List the prunable weights: those of convolutions, Linear, recurrent networks, attentions.

    Known are convolutions and transposed ones, Linear and transformers' `Conv1D`, LSTM, GRU, RNN
    and their cells, the packed projections of `nn.MultiheadAttention`, subclasses too, and stacks
    of matrices for experts. A line says what share of all matrix weights the table holds, and
    what it leaves out; see `unlisted_weights`.

    One forward pass in eval mode gives order and cost; the model is left as it was. Every use of a
    weight counts, also one that does not call its module. A weight that several modules share
    has one row, at its first use, with the cost of all. A weight that the pass does not use comes
    last, with 0 MACs, and is reported. The head is the Linear called last, if no convolution
    follows it, and every Linear that takes one vector for a whole sentence, the earlier ones having
    taken a vector for each word (BERT's pooler).

    A weight that an embedding shares is exempt, unless it is named: by a pattern of `include` that
    matches such weights only, or in `named`.

    Args:
        model: The network.
        inputs: (B, ...) example inputs on the model's device, several in a tuple, or keywords in
            a dict; only their shape matters.
        include: Which rows to list: the name of the parameter (`layer1.0.conv1.weight`) or of its
            module (`layer1.0.conv1`), a shell pattern for one of them (`*`, `?`, `[ab]`; `*`
            crosses dots), or `re:` and a regular expression for the whole of it.
            A tensor of no known kind is listed if it has two axes, and a pattern is its
            parameter's name or matches nothing of a known kind.
        exclude: Which of these not to list; such weights are neither pruned nor counted.
        exempt: Which rows to mark as exempt: they stay dense, and are counted.
        named: Parameters that are named elsewhere, such as in a file of ratios.

    Raises:
        UserError: If a pattern matches nothing, if no row is left, or if the network fails.
    """
    for option, patterns in (("include", include), ("exclude", exclude), ("exempt", exempt)):
        refuse_bad_patterns(patterns, setting=option)
    known = find_prunable(model)
    further = further_tensors(model, known, [*(p for p in include if p != "*"), *named])
    found = [*known, *further]
    stacks = stacks_of(model, found)
    _check(model, [*found, *stacks], include=include, exclude=exclude, exempt=exempt)
    every = [*include, *(name for entry in further for name in entry.parameters)]
    _refuse_nothing(model, [*found, *stacks], include=every, exclude=exclude)
    rows = [
        entry
        for entry in in_forward_order(model, inputs, [*found, *stacks])
        if entry.matches(every) and not entry.matches(exclude)
        if entry not in stacks or entry.layout.axes.startswith("e")
    ]
    _refuse_nothing(model, rows, include=every, exclude=exclude)
    for entry in rows:
        if entry.kind in ("experts", "tensor") and entry.layout.known:
            note_layout(model, entry.name, entry.layout)
            entry.kind = "experts" if entry.layout.axes.startswith("e") else entry.kind
    tied = _tied(rows, [p for p in include if p != "*"], named)
    _say_doubts(rows, tied)
    _say_share(model, rows, include=include, exclude=exclude)
    return tuple(_row(e, exempt=e.matches(exempt) or e in tied) for e in rows)


def _tied(rows: Sequence[Found], include: Sequence[str], named: Sequence[str]) -> list[Found]:
    """Weights that an embedding shares, and that nobody names."""
    shared = [entry for entry in rows if entry.embedding]
    others = [entry for entry in rows if not entry.embedding]
    own = [p for p in include if not any(entry.matches([p]) for entry in others)]
    return [entry for entry in shared if not entry.matches([*own, *named])]


def _say_doubts(rows: Sequence[Found], tied: Sequence[Found]) -> None:
    """Name the rows of which something does not hold."""
    unused = [entry.name for entry in rows if not entry.macs and not entry.touched]
    if unused:
        warn(
            f"layer table: the forward pass on the example does not use {some_names(unused)}: "
            "listed last, 0 MACs; no search can judge them, so that they keep the overall ratio"
        )
    unclear = [entry.name for entry in rows if not entry.macs and entry.touched]
    if unclear:
        warn(
            f"layer table: the forward pass reads {some_names(unclear)}, but in no product that "
            "can be followed: 0 MACs; no search can judge them, so that they keep the overall ratio"
        )
    changed = [entry.name for entry in rows if entry.changed]
    if changed:
        warn(
            f"layer table: {some_names(changed)}: the forward pass computes with other values "
            "than the stored ones, so that `macs_kept`, counted from stored zeros, may not hold"
        )
    for entry in tied:
        say(
            f"layer table: {entry.name} is shared with the embedding {entry.embedding} and stays "
            "dense; to prune it, name it in `include`, or in a file of ratios"
        )


def _say_share(
    model: nn.Module, rows: Sequence[Found], *, include: Sequence[str], exclude: Sequence[str]
) -> None:
    """Say what share of the matrix weights the table holds, if it leaves any out by itself."""
    left = unlisted_weights(model, [entry.name for entry in rows])
    shown = [name for name in left if _matches(name, include) and not _matches(name, exclude)]
    if not shown:
        return
    held = sum(entry.parameter.numel() for entry in rows)
    share = 100 * held / (held + sum(left.values()))
    asked = ", and what `include` and `exclude` leave out" if len(shown) < len(left) else ""
    say(
        f"layer table: it holds {share:.1f} % of the matrix weights; not listed: "
        f"{some_names(shown, 5)}{asked}"
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name_fits(one, pattern) for one in (name, name.rpartition(".")[0]) for pattern in patterns
    )


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


def _row(entry: Found, *, exempt: bool) -> LayerRow:
    return LayerRow(
        name=entry.name,
        kind=entry.kind,
        role=entry.role,
        shape=tuple(entry.parameter.shape),
        weights=entry.parameter.numel(),
        macs=entry.macs,
        exempt=exempt,
        fan=_fan(entry),
    )


def _fan(entry: Found) -> tuple[int, int] | None:
    shape = tuple(entry.parameter.shape)
    outputs, inputs = entry.layout.shape(shape)[:2]
    return None if entry.layout.outputs_first else (outputs, inputs)


def _check(
    model: nn.Module,
    found: Sequence[Found],
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    exempt: Sequence[str],
) -> None:
    """Refuse a pattern that matches nothing."""
    names = [name for entry in found for name in entry.names]
    left = unlisted_weights(model, [entry.name for entry in found])
    for option, patterns in (("include", include), ("exclude", exclude), ("exempt", exempt)):
        for pattern in patterns if found else ():
            loose = option == "exclude" and any(_matches(name, [pattern]) for name in left)
            if not loose and not any(entry.matches([pattern]) for entry in found):
                raise UserError(
                    f"`{option}` {pattern!r}: matches no layer{nearest_name(pattern, names)}"
                )


def _refuse_nothing(
    model: nn.Module, found: Sequence[Found], *, include: Sequence[str], exclude: Sequence[str]
) -> None:
    """Refuse patterns that leave nothing."""
    if not any(entry.matches(include) and not entry.matches(exclude) for entry in found):
        looked_at = [
            f"{name or 'the model itself'} ({type(module).__name__})"
            for name, module in model.named_modules()
            if module._parameters
        ]
        wanted = "/".join([*(cls.__name__ for cls in KINDS), "LSTM", "GRU", "RNN"])
        raise UserError(
            f"layer table: nothing to prune. Looked for {wanted} in {some_names(looked_at)}; "
            f"`include`: {some_names(include)}; `exclude`: {some_names(exclude)}"
        )
