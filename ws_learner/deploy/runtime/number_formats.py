"""Number formats of a network's layers, as asked for: one for all, or one for each by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import nn

from ws_learner.core import NumberFormat, UserError, say, suggest
from ws_learner.deploy.runtime.graph import Site

__all__ = ["Dtype", "LayerDtypes", "check_dtype", "formats_of", "stored_dtype"]

Dtype = Literal["fp32", "int8", "auto"]
LayerDtypes = Mapping[str, NumberFormat]
"""Names of layers, or of their weights, to formats; a layer that is not named is `fp32`."""


def check_dtype(dtype: Dtype | LayerDtypes, model: nn.Module) -> None:
    """Check formats and names before any work.

    Raises:
        UserError: A format is not known, the model has no such layer, or a layer has two formats.
    """
    if not isinstance(dtype, Mapping):
        if dtype not in get_args(Dtype):
            raise UserError(f"`dtype` {dtype}: {suggest(str(dtype), get_args(Dtype))}")
        return
    for name, own in dtype.items():
        if own not in (allowed := get_args(NumberFormat)):
            raise UserError(f"`dtype` {own} of layer {name}: {suggest(str(own), allowed)}")
    _by_layer(dtype, model)


def formats_of(
    dtype: Dtype | LayerDtypes, model: nn.Module, sites: Sequence[Site]
) -> dict[str, Dtype]:
    """Format of each site, by its name.

    Args:
        dtype: Checked, see `check_dtype`.
        model: As it was named by its owner; `sites` are parts of it.
        sites: Layers that can be replaced.
    """
    if not isinstance(dtype, Mapping):
        return dict.fromkeys((site.name for site in sites), dtype)
    by_layer = _by_layer(dtype, model)
    found = {site.name: by_layer.pop(id(site.module), ("", "fp32"))[1] for site in sites}
    if left := sorted(name for name, own in by_layer.values() if own == "int8"):
        say(f"compile_sparse: stay fp32, as no kernel replaces them: {', '.join(left)}")
    return dict(found)


def stored_dtype(plain: Any) -> Dtype | LayerDtypes:
    """The formats that a file names.

    Raises:
        ValueError: They are none.
    """
    known = get_args(Dtype)
    if isinstance(plain, str) and plain in known:
        return plain  # type: ignore[return-value]
    formats = get_args(NumberFormat)
    if isinstance(plain, dict) and all(own in formats for own in plain.values()):
        return plain
    raise ValueError(f"dtype {plain}")


def _by_layer(dtype: LayerDtypes, model: nn.Module) -> dict[int, tuple[str, NumberFormat]]:
    """Name and format of each module that is named, by its identity."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[int, tuple[str, NumberFormat]] = {}
    for name, own in dtype.items():
        layer = "" if name == "weight" else name.removesuffix(".weight")
        module = modules.get(layer)
        if module is None or not isinstance(getattr(module, "weight", None), nn.Parameter):
            named = [n for n, m in modules.items() if n and "weight" in m._parameters]
            raise UserError(f"`dtype` of layer {name}: not in this model; {_near(name, named)}")
        before = found.setdefault(id(module), (name, own))
        if before[1] != own:
            raise UserError(
                f"`dtype`: {name} is {own} and {before[0]} is {before[1]}, but they are one layer; "
                "name it once"
            )
    return found


def _near(name: str, names: Sequence[str]) -> str:
    few = 12
    hint, _, allowed = suggest(name, names).partition("Allowed: ")
    listed = allowed.split(", ")
    more = f" and {len(listed) - few} more" if len(listed) > few else ""
    return f"{hint}Allowed: {', '.join(listed[:few])}{more}"
