"""Where one range for a layer's inputs, the same for all tokens, costs accuracy.

A few channels of a language model are far larger in some tokens than in all others. A range that
holds them leaves the others a handful of the 256 bytes (Dettmers et al. 2022, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import warn
from ws_learner.deploy.runtime.graph import Inputs, Site, call, own, watch
from ws_learner.deploy.runtime.quantisation import InputScale

__all__ = ["hurt_by_static_ranges", "warn_of_static_ranges"]

_BATCHES = 2  # that outputs are compared on
_LEAST = 0.05  # relative error of an output that is worth a warning
_TIMES = 2.0  # and so many times that of bytes by token
_NAMED = 3


def hurt_by_static_ranges(
    model: nn.Module,
    sites: Sequence[Site],
    scales: Mapping[str, InputScale],
    batches: Sequence[Inputs],
) -> dict[str, tuple[float, float]]:
    """Linear layers whose outputs one range moves far more than a range for each token would.

    Args:
        model: Dense layers in place.
        sites: Layers; convolutions are left out.
        scales: The range of each layer's inputs, by name.
        batches: Calibration inputs, two of which are used.

    Returns:
        By layer's name, the relative errors of its output: with its range, and by token.
    """
    sums: dict[str, list[float]] = {}

    def see(site: Site, x: Tensor) -> None:
        if x.dtype != torch.float32 or not x.numel():
            return
        with torch.no_grad():
            weight = site.module.weight
            moved = [
                functional.linear(scales[site.name].rounded(x) - x, weight),
                functional.linear(_by_token(x) - x, weight),
                functional.linear(x, weight),
            ]
        total = sums.setdefault(site.name, [0.0, 0.0, 0.0])
        for place, part in enumerate(moved):
            total[place] += float(part.double().square().sum())

    linear = [s for s in sites if isinstance(s.module, nn.Linear) and s.name in scales]
    with watch(linear, see):
        for inputs in batches[:_BATCHES] if linear else []:
            call(model, own(inputs))
    found = {
        name: ((static / size) ** 0.5, (token / size) ** 0.5)
        for name, (static, token, size) in sums.items()
        if size > 0
    }
    return {
        name: errors
        for name, errors in found.items()
        if errors[0] > _LEAST and errors[0] > _TIMES * errors[1]
    }


def warn_of_static_ranges(*given: Any) -> None:
    """Name the layers that `hurt_by_static_ranges` finds, and the remedy, in one line."""
    hurt = hurt_by_static_ranges(*given)
    if not hurt:
        return
    worst = sorted(hurt, key=lambda name: -hurt[name][0])
    static, token = hurt[worst[0]]
    more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
    warn(
        f"INT8: one range for all tokens moves outputs of {', '.join(worst[:_NAMED])}{more} by up "
        f"to {static:.0%} ({token:.1%} with a range for each token): some inputs have channels far "
        'larger than others; use dtype="auto", which leaves such layers in float32, or '
        "compile_sparse_lm for a language model, which has a range for each token"
    )


def _by_token(x: Tensor) -> Tensor:
    """Rounded to 255 steps, with a scale for each token."""
    most = x.abs().amax(dim=-1, keepdim=True)
    scale = torch.where(most > 0, most, torch.ones_like(most)) / 127
    return torch.round(x / scale) * scale
