"""Dense convolution baselines: channels_last, packed, and INT8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.deploy.runtime.codegen.spec import Activation
from ws_learner.deploy.runtime.dense_baselines import Runner, activation_of, quantised
from ws_learner.deploy.runtime.quantisation import InputScale

__all__ = ["ConvGeometry", "conv_int8", "dense_conv", "packed_conv"]

ConvGeometry = tuple[list[int], list[int], list[int]]
"""Stride, padding, dilation; (down, across) each."""


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def dense_conv(
    weight: Tensor, bias: Tensor | None, walk: ConvGeometry, activation: Activation
) -> Runner:
    """`F.conv2d` on images with channels innermost, which they stay."""
    weight, after = _last(weight), activation_of(activation)
    return lambda x: after(functional.conv2d(_last(x), weight, bias, *walk))


def packed_conv(
    weight: Tensor, bias: Tensor | None, walk: ConvGeometry, activation: Activation
) -> Runner | None:
    """OneDNN's convolution with its weight laid out beforehand; None where PyTorch has none."""
    stride, padding, dilation = walk
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(), padding, stride, dilation, 1
        )
        run = torch.ops.mkldnn._convolution_pointwise
    except (AttributeError, RuntimeError):
        return None
    return lambda x: run(
        x, packed, bias, padding, stride, dilation, 1, activation, [], _ALGORITHMS[activation]
    )


_ALGORITHMS = {"none": "", "relu": "", "gelu": "none"}


def conv_int8(
    weight: Tensor,
    scales: npt.NDArray[np.float32],
    bias: Tensor | None,
    walk: ConvGeometry,
    *,
    source: InputScale,
    activation: Activation,
) -> Runner | None:
    """PyTorch's oneDNN convolution of bytes; None where this build of PyTorch has none."""
    steps, zeros = torch.from_numpy(scales), torch.zeros(len(scales), dtype=torch.int64)
    bytes_ = weight.contiguous().clone()
    try:
        packed = torch.ops.onednn.qconv_prepack(bytes_, steps, source.scale, source.zero, *walk, 1)
        run = torch.ops.onednn.qconv_pointwise
    except (AttributeError, RuntimeError):
        return None
    # It has no fused GELU.
    own = activation if activation == "relu" else "none"
    after = activation_of("none" if own == activation else activation)

    def convolve(x: Tensor) -> Tensor:
        whole = quantised(_last(x).permute(0, 2, 3, 1), source).permute(0, 3, 1, 2)
        y: Tensor = run(
            *(whole, source.scale, source.zero, packed, steps, zeros, bias, *walk, 1),
            *(1.0, 0, torch.float32, own, [], "none"),
        )
        return after(y)

    return convolve
