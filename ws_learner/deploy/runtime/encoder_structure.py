"""Recognise a layer of a transformer's encoder by what it computes, not by what it is called.

While a module runs once, its linear layers, attention, norms and activation note what they were
given and what they gave. The module is such a layer if these values are those of

    z = norm1(x + o(attention(q(x), k(x), v(x), mask))),  norm2(z + down(activation(up(z))))

(Vaswani et al. 2017, section 3.1, as BERT has it). Values are compared bit by bit, so that
whatever else happens on the way is found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ws_learner.core import check_settings
from ws_learner.deploy.runtime.attention_masks import MaskKind, mask_slot, probes
from ws_learner.deploy.runtime.codegen.spec import Activation
from ws_learner.deploy.runtime.encoder_notes import Arguments, Notes, Slot, noted, same

__all__ = ["EncoderParts", "candidates_of", "recognise"]

_LINEARS, _NORMS = 6, 2
_MASKED = 2  # tokens, of which one is hidden to see what a mask does


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderParts:
    """What an encoder layer is made of.

    Attributes:
        layers: Names of the linear layers: q, k, v, o, up, down.
        norms: (weight, bias, epsilon) of both.
        activation: Between up and down.
        heads: Of the attention.
        scale: Of the scores.
        hidden: Where x is given.
        mask: Where a mask is given, or None where none is taken.
        kind: Of the mask.
        wrapped: Whether the output is in a tuple by itself.
    """

    layers: tuple[str, str, str, str, str, str]
    norms: tuple[tuple[Tensor, Tensor, float], tuple[Tensor, Tensor, float]]
    activation: Activation
    heads: int
    scale: float
    hidden: Slot
    mask: Slot | None
    kind: MaskKind
    wrapped: bool

    def __post_init__(self) -> None:
        check_settings(self)


def candidates_of(model: nn.Module, names: Mapping[int, str]) -> dict[str, nn.Module]:
    """The innermost modules of six of these layers and two norms, by name.

    Args:
        model: The network.
        names: Of the layers that may be parts, by identity.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        parts = list(module.modules())
        linears = sum(id(part) in names for part in parts)
        norms = sum(isinstance(part, nn.LayerNorm) for part in parts)
        if (linears, norms) == (_LINEARS, _NORMS):
            found[name] = module
    outer = {n for n in found for m in found if m != n and m.startswith(f"{n}." if n else "")}
    return {name: module for name, module in found.items() if name not in outer}


@torch.no_grad()
def recognise(module: nn.Module, names: Mapping[int, str], given: Arguments) -> EncoderParts | None:
    """The parts of a module, or None if it is no encoder layer.

    Args:
        module: Its linear layers may be replaced already.
        names: Of these layers, by identity.
        given: What it was called with.
    """
    parts = _looked_at(module, names, given)
    if parts is None or parts.mask is not None:
        return parts
    x = dict(given.items())[parts.hidden]
    if x.shape[1] < _MASKED:
        return parts
    for slot, value in given.items():
        for kind, mask in probes(x.shape[0], x.shape[1]) if value is None else ():
            found = _looked_at(module, names, given.put(slot, mask))
            if found is not None and (found.mask, found.kind) == (slot, kind):
                return found
    return parts


def _looked_at(
    module: nn.Module, names: Mapping[int, str], given: Arguments
) -> EncoderParts | None:
    notes = noted(module, names, given)
    if notes is None or len(notes.linears) != _LINEARS:
        return None
    return _matched(notes, given)


def _matched(notes: Notes, given: Arguments) -> EncoderParts | None:
    attention = notes.attention()
    layers = _layers(notes)
    if attention is None or layers is None:
        return None
    *_, output, up, down = layers
    x = notes.linears[layers[0]][0]
    first = _norm_of(notes, x + notes.linears[output][1])
    second = None if first is None else _norm_of(notes, first[1] + notes.linears[down][1])
    activation = _activation(notes, notes.linears[up][1], notes.linears[down][0])
    if first is None or second is None or activation is None:
        return None
    if not same(notes.linears[up][0], first[1]):
        return None
    wrapped = isinstance(notes.output, tuple)
    final = notes.output[0] if wrapped and len(notes.output) == 1 else notes.output
    hidden = [slot for slot, value in given.items() if same(value, x)]
    if not same(final, second[1]) or len(hidden) != 1:
        return None
    mask, kind = mask_slot(attention.mask, given)
    used = {s for s, v in given.items() if isinstance(v, Tensor) and id(v) in notes.used}
    if (attention.mask is not None and mask is None) or used - {hidden[0], mask}:
        return None
    _, heads, _, depth = attention.result.shape
    return EncoderParts(
        layers=layers,
        norms=(first[0], second[0]),
        activation=activation,
        heads=heads,
        scale=depth**-0.5 if attention.scale is None else float(attention.scale),
        hidden=hidden[0],
        mask=mask,
        kind=kind,
        wrapped=wrapped,
    )


def _layers(notes: Notes) -> tuple[str, str, str, str, str, str] | None:
    """Names of q, k, v, o, up, down, by what they give to and take from the attention."""
    attention = notes.attention()
    if attention is None:
        return None
    batch, heads, length, depth = attention.result.shape

    def joined(t: Tensor) -> Tensor:
        return t.transpose(1, 2).reshape(batch, length, heads * depth)

    q, k, v = (notes.source(joined(t)) for t in attention.tensors)
    output = notes.reader(joined(attention.result))
    if q is None or k is None or v is None or output is None or len({q, k, v, output}) < 4:
        return None
    x = notes.linears[q][0]
    if not all(same(notes.linears[name][0], x) for name in (k, v)):
        return None
    first = _norm_of(notes, x + notes.linears[output][1])
    up = None if first is None else notes.reader(first[1])
    if up is None or up in {q, k, v, output}:
        return None
    (down,) = notes.linears.keys() - {q, k, v, output, up}
    return q, k, v, output, up, down


def _norm_of(notes: Notes, values: Tensor) -> tuple[tuple[Tensor, Tensor, float], Tensor] | None:
    """Weight, bias and epsilon of the norm that was given these, and its result."""
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    for name, args, words, result in notes.calls:
        if name != "layer_norm":
            continue
        of = dict(zip(names, args, strict=False)) | words
        whole = tuple(of["normalized_shape"]) == tuple(values.shape[-1:])
        given = isinstance(of.get("weight"), Tensor) and isinstance(of.get("bias"), Tensor)
        if whole and given and same(of["input"], values):
            return (of["weight"], of["bias"], float(of.get("eps", 1e-5))), result
    return None


def _activation(notes: Notes, before: Tensor, after: Tensor) -> Activation | None:
    for name, args, words, result in notes.calls:
        exact = name == "gelu" and words.get("approximate", "none") == "none"
        if exact and same(args[0], before) and same(result, after):
            return "gelu"
    return "relu" if same(torch.relu(before), after) else None
