"""Max pooling by vector operations.

PyTorch's own compares one number at a time in (B, C, H, W) memory, with a branch for each. That
takes longer than a sparse convolution, and its time depends on the values. Here the rows of a
window are compared first, then its columns, each a maximum of whole tensors.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.deploy.runtime.fused_sequential import is_watched

__all__ = ["FastMaxPool2d", "max_pool2d", "speed_up_pools"]

_Sizes = int | tuple[int, ...]
_WIDEST = 3  # of a window; wider ones are rare, and each column costs a pass


def max_pool2d(
    input: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes | None = None,
    padding: _Sizes = 0,
    dilation: _Sizes = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """As `torch.nn.functional.max_pool2d`, the same values.

    Args:
        input: (B, C, H, W) or (C, H, W).
        kernel_size: Height and width of the window, or one number for both, as all that follow.
        stride: Between windows; by default the window's own size.
        padding: Minus infinity is put around the image.
        dilation: Between the values of a window.
        ceil_mode: Whether windows that reach over the edge count.
    """
    (height, width), (down, across) = _pair(kernel_size), _pair(stride or kernel_size)
    rows, columns = _pair(padding)
    fits = input.size(-2) + 2 * rows >= height and input.size(-1) + 2 * columns >= width
    plain = _pair(dilation) == (1, 1) and not ceil_mode and max(height, width) <= _WIDEST
    inside = 2 * rows <= height and 2 * columns <= width
    if not (plain and fits and inside and _is_plain(input)):
        return functional.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    if rows or columns:
        input = functional.pad(input, (columns, columns, rows, rows), value=float("-inf"))
    return _slid(_slid(input, -2, height, down), -1, width, across)


def _pair(sizes: _Sizes) -> tuple[int, int]:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return (given[0], given[-1])


def _is_plain(x: Tensor) -> bool:
    """Channels-last memory is fast in PyTorch already; other types may have no minus infinity."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()


def _slid(x: Tensor, side: int, size: int, stride: int) -> Tensor:
    """Largest value of each window along one side."""
    count = (x.size(side) - size) // stride + 1
    last = (count - 1) * stride + 1
    parts = [_every(x, side, first, last, stride) for first in range(size)]
    return reduce(torch.maximum, parts)


def _every(x: Tensor, side: int, first: int, length: int, stride: int) -> Tensor:
    steps = slice(first, first + length, stride)
    return x[..., steps, :] if side == -2 else x[..., steps]


class FastMaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d` by `max_pool2d` of this file."""

    def forward(self, input: Tensor) -> Any:
        """Largest value of each window, see `nn.MaxPool2d`."""
        places = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return max_pool2d(input, *places)


def speed_up_pools(root: nn.Module) -> None:
    """Put `FastMaxPool2d` in place of PyTorch's; one that has hooks or gives indices stays."""
    made: dict[int, FastMaxPool2d] = {}
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if type(child) is nn.MaxPool2d and not child.return_indices and not is_watched(child):
                parent._modules[name] = made.setdefault(id(child), _fast(child))


def _fast(pool: nn.MaxPool2d) -> FastMaxPool2d:
    sizes = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return FastMaxPool2d(*sizes, ceil_mode=pool.ceil_mode).eval()
