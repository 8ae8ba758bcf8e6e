"""Layers as they are measured: each with an input that the network gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from envs import LayerRow
from ws_learner.core import Inputs, UserError
from ws_learner.deploy.runtime.acceptance import in_row_order, without_nesting
from ws_learner.deploy.runtime.graph import Site, call, checked, find_sites, with_holder

__all__ = ["Calls", "Specimen", "find_specimens"]

Calls = dict[str, Counter[str]]
"""For each row's name, how often a forward pass computes which signature."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """A layer and an input of it.

    Attributes:
        signature: All that its speed depends on, apart from its zeros, as text.
        module: A copy of the layer.
        sample: An input.
        site: Where our kernels may replace it, or None.
        network_weights: Of all layers of the network, up to the next power of two: they go
            through the caches between two calls.
    """

    signature: str
    module: nn.Module
    sample: Tensor
    site: Site | None
    network_weights: int

    @property
    def weight(self) -> Tensor:
        """Of the layer."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        return weight


def find_specimens(
    model: nn.Module, inputs: Inputs, layers: Sequence[LayerRow]
) -> tuple[Calls, dict[str, Specimen]]:
    """The layers of the table, one specimen for all that are alike.

    A weight that no linear layer or convolution holds (an LSTM's, a packed attention's) has no
    specimen, and its row no calls: no engine makes it faster, its time is part of the overhead.

    Args:
        model: Not changed.
        inputs: Of the network.
        layers: The table.

    Raises:
        UserError: The model lacks one of the parameters.
    """
    dense = in_row_order(without_nesting(model))
    held = {row.name: _weight(dense, row.name) for row in layers}
    weights = {id(weight): name for name, weight in held.items()}
    total = sum(weight.numel() for weight in held.values())
    network_weights = 1 << max(total - 1, 1).bit_length()
    work = with_holder(dense)
    sites = {id(site.module): site for site in find_sites(work)}
    calls: Calls = {row.name: Counter() for row in layers}
    found: dict[str, Specimen] = {}

    def see(module: nn.Module, places: tuple[Any, ...], words: dict[str, Any]) -> None:
        sample = places[0] if places else words["input"]
        if sample.dtype != torch.float32 or not sample.numel():
            return
        site = sites.get(id(module))
        signature = f"{_signature(module, sample, site)} among {network_weights}"
        calls[weights[id(module.weight)]][signature] += 1
        if signature not in found:
            kept = sample.detach().clone()
            found[signature] = Specimen(
                signature=signature,
                module=module,
                sample=kept,
                site=site,
                network_weights=network_weights,
            )

    with ExitStack() as hooks:
        for module in work.modules():
            if isinstance(module, nn.Linear | _ConvNd) and id(module.weight) in weights:
                hook = module.register_forward_pre_hook(see, with_kwargs=True)
                hooks.callback(hook.remove)
        call(work, checked(inputs, "example_inputs"))
    return calls, found


def _weight(model: nn.Module, name: str) -> nn.Parameter:
    try:
        return model.get_parameter(name)
    except AttributeError as error:
        raise UserError(
            f"`layers`: {type(model).__name__} has no parameter {name}; give its own layer table"
        ) from error


def _signature(module: nn.Linear | _ConvNd | nn.Module, sample: Tensor, site: Site | None) -> str:
    weight: Tensor = module.weight  # type: ignore[assignment]
    parts = [type(module).__name__, _by(weight.shape), "on", _by(sample.shape)]
    if isinstance(module, _ConvNd):
        parts += [
            f"{letter}{_by(values)}"
            for letter, values in (
                ("stride", module.stride),
                ("pad", module.padding),
                ("dilation", module.dilation),
                ("groups", (module.groups,)),
            )
        ]
    parts.append("bias" if module.bias is not None else "no-bias")
    if sample.dim() == 4 and not sample.is_contiguous():
        parts.append("channels-last")
    if site is None:
        parts.append("fixed")
    elif site.activation != "none":
        parts.append(site.activation)
    return " ".join(parts)


def _by(values: Any) -> str:
    return values if isinstance(values, str) else "x".join(str(int(value)) for value in values)
