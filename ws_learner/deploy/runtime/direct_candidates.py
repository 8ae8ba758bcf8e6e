"""Which convolutions are worth a direct kernel, and which im2col kernels stay in the trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ws_learner.deploy.runtime.codegen.image_plan import Walk
from ws_learner.deploy.runtime.codegen.sparse_images import MOST_IMAGE_INPUTS
from ws_learner.deploy.runtime.codegen.spec import Spec

__all__ = ["with_direct"]


def with_direct(specs: Sequence[Spec], walk: Walk, *, channels: int) -> list[Spec]:
    """Kernels for a convolution: direct ones first, then those that need im2col.

    Where im2col copies nothing (one tap, no stride, no padding) all of its kernels stay; elsewhere
    the first of each block shape does. There are no direct kernels of AMX, nor for more inputs than
    fit a panel.

    Args:
        specs: Kernels for im2col.
        walk: Of the convolution.
        channels: Of the image.
    """
    taps = math.prod(walk.kernel)
    direct = [replace(spec, layout="images") for spec in specs if spec.dot != "amx"]
    if taps * (channels + -channels % 4) > MOST_IMAGE_INPUTS:
        direct = []
    plain = taps == 1 and walk.stride == (1, 1) and walk.padding == (0, 0)
    if plain or not direct:
        return [*direct, *specs]
    firsts = {(s.dot, s.rows, s.inputs): s for s in reversed(specs)}
    return [*direct, *(spec for spec in specs if spec in firsts.values())]
