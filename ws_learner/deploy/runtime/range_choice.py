"""Which ranges of activations to use for bytes: those that move the network's outputs least.

A few values far from all others stretch the range from least to largest, and leave the rest a
handful of the 256 bytes. Where such values do not matter, percentiles are better; where they do, as
in some transformers, percentiles cut off what the network needs. So both are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ws_learner.core import say
from ws_learner.deploy.runtime.graph import Inputs, Site, call, observers, own
from ws_learner.deploy.runtime.output_comparison import differences
from ws_learner.deploy.runtime.quantisation import (
    Calibration,
    InputScale,
    RangeMethod,
    RangeObserver,
)

__all__ = ["chosen_ranges", "least_moved"]

_BATCHES = 8  # that outputs are compared on


def chosen_ranges(
    model: nn.Module, sites: Sequence[Site], data: Iterable[Inputs], method: Calibration
) -> dict[str, RangeObserver]:
    """Run the model over `data`; return an observer per layer, set to the method.

    Args:
        model: Dense layers in place.
        sites: Layers whose inputs become bytes.
        data: Batches of inputs.
        method: `auto` compares the outputs on eight batches at most.
    """
    batches = list(data)
    found = observers(model, sites, batches, "minmax" if method == "minmax" else "percentile")
    if method != "auto":
        return found
    some = batches[:_BATCHES]

    def outputs(rounded: RangeMethod | None) -> Iterator[Any]:
        scales = {} if rounded is None else {n: one.settle(rounded) for n, one in found.items()}
        with _rounding(sites, scales):
            yield from (call(model, own(inputs)) for inputs in some)

    best = least_moved(outputs)
    for observer in found.values():
        observer.method = best
    return found


def least_moved(outputs: Callable[[RangeMethod | None], Iterable[Any]]) -> RangeMethod:
    """The method whose rounding moves the outputs least; `minmax` where both do alike.

    Args:
        outputs: The network's outputs on the same batches, with inputs of layers rounded by a
            method, or not at all.
    """
    plain = list(outputs(None))
    errors = {  # a list each: the network cannot round and not round at the same time
        method: differences(zip(list(outputs(method)), plain, strict=True))["relative_error"]
        for method in get_args(RangeMethod)
    }
    best: RangeMethod = min(errors, key=lambda method: (errors[method], method != "minmax"))
    if best != "minmax":
        say(
            "INT8: a few activations lie far from all others; ranges are the percentiles, by which "
            f"outputs move by {errors[best]:.1%}, not {errors['minmax']:.1%}"
        )
    return best


@contextmanager
def _rounding(sites: Sequence[Site], scales: Mapping[str, InputScale]) -> Iterator[None]:
    """Inside, the layers' inputs are rounded to bytes and back."""

    def hook(scale: InputScale) -> Callable[..., Any]:
        def rounded(module: nn.Module, places: tuple[Any, ...], words: dict[str, Any]) -> Any:
            if places:
                return (_rounded(scale, places[0]), *places[1:]), words
            return places, words | {"input": _rounded(scale, words["input"])}

        return rounded

    with ExitStack() as hooks:
        for site in sites:
            if site.name in scales:
                pre = hook(scales[site.name])
                held = site.module.register_forward_pre_hook(pre, with_kwargs=True)
                hooks.callback(held.remove)
        yield


def _rounded(scale: InputScale, x: Tensor) -> Tensor:
    return scale.rounded(x) if x.dtype == torch.float32 else x
