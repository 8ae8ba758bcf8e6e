"""Remove heads from attentions with a fused q, k, v layer, outside the dependency graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.other_inputs import tensors_in
from ws_learner.deploy.shrinking.report import RemovedChannels
from ws_learner.deploy.shrinking.tracing import call_model
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS, find_attention

__all__ = ["shrink_fused_heads"]


@torch.no_grad()
def shrink_fused_heads(model: nn.Module, arguments: Any) -> Iterator[RemovedChannels]:
    """Remove dead heads from every fused attention of `model`, in place.

    A head goes if the output projection does not read it, or if its values are constant; a
    softmax sums to 1, so a constant passes and is folded into the projection's bias. The layer's
    rows must be (q, k, v) x heads x width. Each cut is tried: where the network no longer runs,
    or its outputs change, the attention stays as it was.
    """
    try:
        found = find_attention(model)
    except UserError:  # heads that share keys; they are not fused
        return
    for attention in found:
        heads = next(iter(attention.patterns.values()))
        if heads.parts == 3:
            fused, out = (n.removesuffix(".weight") for n in attention.patterns)
            layers = (model.get_submodule(name) for name in (fused, out))
            if all(type(layer) is nn.Linear for layer in layers):
                yield _cut(
                    model, attention.name, fused, out, count=heads.heads, arguments=arguments
                )


def _cut(
    model: nn.Module, owner: str, fused: str, out: str, *, count: int, arguments: Any
) -> RemovedChannels:
    module = model.get_submodule(owner)
    layer, reader = model.get_submodule(fused), model.get_submodule(out)
    assert isinstance(layer, nn.Linear)
    assert isinstance(reader, nn.Linear)
    rows = layer.out_features
    values = layer.weight.reshape(3, count, -1)[2]
    columns = reader.weight.T.reshape(count, -1)
    dead = values.eq(0).all(1) | columns.eq(0).all(1)
    keep = torch.nonzero(~dead).flatten()
    keep = keep if len(keep) else torch.zeros(1, dtype=torch.int64)  # one head has to stay
    if len(keep) == count:
        return RemovedChannels(layer=fused, before=rows, after=rows)
    before = call_model(model, arguments)
    changed: list[tuple[Any, str, Any]] = []
    _replace(layer, reader, module, keep=keep, count=count, changed=changed)
    if _same(model, arguments, before):
        after = layer.out_features
        return RemovedChannels(layer=fused, before=rows, after=after)
    for holder, attribute, value in reversed(changed):
        setattr(holder, attribute, value)
    note = f"{count - len(keep)} dead heads, but {type(module).__name__} needs them all"
    return RemovedChannels(layer=fused, before=rows, after=rows, note=note)


def _replace(
    layer: nn.Linear,
    reader: nn.Linear,
    module: nn.Module,
    *,
    keep: Tensor,
    count: int,
    changed: list[tuple[Any, str, Any]],
) -> None:
    """Cut both layers down to the heads `keep`; the original layers are kept in `changed`."""

    def put(holder: Any, attribute: str, value: Any) -> None:
        changed.append((holder, attribute, getattr(holder, attribute)))
        setattr(holder, attribute, value)

    gone = torch.ones(count, dtype=torch.bool)
    gone[keep] = False
    width = reader.in_features // count
    if layer.bias is not None:
        constants = layer.bias.reshape(3, count, width)[2] * gone[:, None]
        extra = reader.weight.double() @ constants.reshape(-1).double()
        if bool(extra.any()):
            base = 0 if reader.bias is None else reader.bias.double()
            put(reader, "bias", nn.Parameter((base + extra).to(reader.weight.dtype)))
        bias = layer.bias.reshape(3, count, width)[:, keep].reshape(-1)
        put(layer, "bias", nn.Parameter(bias.clone()))
    weight = layer.weight.reshape(3, count, width, -1)[:, keep]
    put(layer, "weight", nn.Parameter(weight.reshape(-1, layer.in_features).clone()))
    columns = reader.weight.reshape(-1, count, width)[:, keep]
    put(reader, "weight", nn.Parameter(columns.reshape(reader.out_features, -1).clone()))
    put(layer, "out_features", 3 * len(keep) * width)
    put(reader, "in_features", len(keep) * width)
    for name in (*HEAD_COUNTS, *ATTENTION_WIDTHS):
        value = getattr(module, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            put(module, name, len(keep) if name in HEAD_COUNTS else len(keep) * width)


def _same(model: nn.Module, arguments: Any, before: Any) -> bool:
    """Whether the network still runs with the same outputs, to a relative 1e-5."""
    try:
        after = call_model(model, arguments)
    except Exception:  # whatever a forward pass raises
        return False
    pairs = list(zip(tensors_in(before), tensors_in(after), strict=False))
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-5 * b.abs().max().clamp(min=1))
        for a, b in pairs
        if a.is_floating_point() and a.numel()
    )
