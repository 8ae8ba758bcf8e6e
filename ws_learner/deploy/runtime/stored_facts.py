"""What a `.wsr` file says of a compiled network, checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, shown
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.sparse_images import MOST_IMAGE_INPUTS
from ws_learner.deploy.runtime.codegen.spec import MOST_TILE_INPUTS
from ws_learner.deploy.runtime.graph import Site
from ws_learner.deploy.runtime.number_formats import stored_dtype
from ws_learner.deploy.runtime.quantisation import InputScale
from ws_learner.deploy.runtime.save import SCALES
from ws_learner.deploy.runtime.selection import KernelChoice
from ws_learner.deploy.runtime.wsr_header import sides_of

__all__ = ["check_layers", "input_scale", "read_choices", "runs_here"]

_FACTS = (
    *("architecture", "cpu", "dtype", "dense", "wrong", "wrapped", "bytes", "speedup"),
    *("choices", "sources"),
)
_MOST_VALUES = 1 << 28
_AGAIN = "save the compiled model again"


def read_choices(path: Path, facts: Mapping[str, Any]) -> dict[str, KernelChoice]:
    """The kernels that a file names, after a look at whether all of its facts are sensible.

    Raises:
        UserError: They are not.
    """
    if missing := [name for name in _FACTS if name not in facts]:
        raise UserError(f"{path}: does not say {', '.join(missing)}; {_AGAIN}")
    try:
        _check_facts(facts)
        return {name: _choice(plain) for name, plain in facts["choices"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = shown(str(error), most=200)
        raise UserError(f"{path}: names no kernel of ours ({reason}); {_AGAIN}") from error


def _check_facts(facts: Mapping[str, Any]) -> None:
    for name in ("choices", "sources", "bytes"):
        if not isinstance(facts[name], dict):
            raise ValueError(f"{name} is no table")
    for name in ("dense", "wrong", "wrapped"):
        if not isinstance(facts[name], bool):
            raise ValueError(f"{name} is neither true nor false")
    if not all(isinstance(one, bool) for one in facts["bytes"].values()):
        raise ValueError("bytes are neither allowed nor not")
    stored_dtype(facts["dtype"])
    if not facts["choices"].keys() <= facts["sources"].keys():
        raise ValueError("layers and their scales do not agree")
    _number(facts["speedup"])
    for source in facts["sources"].values():
        if source is not None:
            input_scale(source)


def _choice(plain: Any) -> KernelChoice:
    choice = KernelChoice.read(plain)
    if not isinstance(choice.kernel, str) or not isinstance(choice.pattern, str):
        raise ValueError(f"kernel {shown(choice.kernel)}")  # what it is called may have changed
    _number(choice.speedup)
    if not 0 <= _number(choice.density) <= 1:
        raise ValueError(f"density {choice.density}")
    if math.prod(sides_of(choice.shape)) > _MOST_VALUES:
        raise ValueError(f"inputs of shape {choice.shape}")
    return choice


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no number")
    return float(value)


def input_scale(source: Sequence[Any]) -> InputScale:
    """How a layer's inputs are quantised.

    Raises:
        ValueError: It is no scale.
    """
    scale, zero = source
    if not 0 < _number(scale) < math.inf or isinstance(zero, bool) or not isinstance(zero, int):
        raise ValueError("a scale that is none")
    if not 0 <= zero <= 255:
        raise ValueError("a zero point that is no byte")
    return InputScale(scale=float(scale), zero=zero)


def check_layers(
    path: Path,
    sites: Sequence[Site],
    choices: Mapping[str, KernelChoice],
    *,
    facts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """Check that the kernels and scales fit the layers that they are for.

    Raises:
        UserError: They do not.
    """
    known = {site.name: site.module for site in sites}
    for name, choice in choices.items():
        if name not in known:
            raise UserError(f"{path}: belongs to another network: it has no layer {shown(name)}")
        own, scales = f"{name}.weight", tensors.get(f"{name}.weight{SCALES}")
        reason = _unfit(known[name], choice, quantised=facts["sources"][name] is not None)
        if scales is not None and not _are_scales(scales, tensors[own]):
            reason = "has scales that are none"
        if reason:
            raise UserError(f"{path}: the kernel of layer {shown(name)} {reason}; {_AGAIN}")


def _unfit(module: nn.Linear | nn.Conv2d, choice: KernelChoice, *, quantised: bool) -> str:
    """Why a kernel cannot be a layer's; empty if it can."""
    convolves, spec = isinstance(module, nn.Conv2d), choice.spec
    inputs, place = module.weight.shape[1], 3 if convolves else 1
    if len(choice.shape) < place or choice.shape[-place] != inputs:
        return f"was chosen on inputs of shape {choice.shape}"
    if spec is None:
        return ""
    if (spec.layout in ("channels", "images")) != convolves:
        return "is for another kind of layer"
    taps = module.weight[0].numel() // inputs
    if spec.layout == "images" and taps * (inputs + -inputs % 4) > MOST_IMAGE_INPUTS:
        return "takes fewer inputs"
    if spec.dot == "amx" and module.weight[0].numel() > MOST_TILE_INPUTS:
        return "takes fewer inputs"
    return "" if quantised or not spec.int8 else "does not know the scale of its inputs"


def _are_scales(scales: Tensor, stored: Tensor) -> bool:
    """Whether they are scales of the bytes that a layer's weight is stored in."""
    fits = scales.dtype == torch.float32 and stored.dtype == torch.int8
    return fits and scales.dim() == 1 and bool((scales.isfinite() & (scales >= 0)).all())


def runs_here(choices: Mapping[str, KernelChoice]) -> bool:
    """Whether this processor has the instructions of all kernels."""
    here = {isa.name for isa in usable_isas()}
    return all(choice.spec is None or choice.spec.isa in here for choice in choices.values())
