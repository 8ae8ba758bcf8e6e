"""Input vectors of the outputs of a convolution, transposed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Convolution", "choose_positions"]

_Conv = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """How a convolution reads its inputs, (B, C, *spatial).

    Attributes:
        kernel: Its extent along each spatial axis.
        stride: Step along each axis.
        dilation: Distance of neighbouring taps.
        pads: Amounts for `functional.pad`: last axis first, before and after. For a transposed
            one they are around the inputs with zeros between them.
        groups: Number of groups.
        mode: Mode of the padding.
        transposed: Whether it is a transposed convolution.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int = 1
    mode: str = "constant"
    transposed: bool = False

    @classmethod
    def of_module(cls, module: _Conv, inputs: Tensor, output: Tensor | None = None) -> Self:
        """The convolution of a module; one of given output size needs the output."""
        stride, dilation = tuple(module.stride), tuple(module.dilation)
        kernel = tuple(module.kernel_size)
        if module.transposed:
            assert not isinstance(module.padding, str)
            extra = tuple(module.output_padding)
            if output is not None:
                extra = tuple(
                    size - (n - 1) * s + 2 * p - d * (k - 1) - 1
                    for size, n, s, p, d, k in zip(
                        output.shape[-len(kernel) :], inputs.shape[-len(kernel) :],
                        stride, module.padding, dilation, kernel, strict=True,
                    )
                )  # fmt: skip
            return cls.of_numbers(
                kernel, stride, module.padding, dilation, module.groups, transposed=extra
            )
        pads: list[int] = []
        for axis in reversed(range(len(kernel))):
            if isinstance(module.padding, str):
                same = module.padding == "same"
                total = dilation[axis] * (kernel[axis] - 1) if same else 0
                pads += [total // 2, total - total // 2]
            else:
                pads += [module.padding[axis]] * 2
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        return cls(
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            pads=tuple(pads),
            groups=module.groups,
            mode=mode,
        )

    @classmethod
    def of_numbers(
        cls,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        *,
        transposed: Sequence[int] | None = None,
    ) -> Self:
        """The convolution of `torch.convolution`'s arguments.

        Args:
            kernel: Extent along each axis.
            stride: One number for each axis, or one for all; so with the next two.
            padding: Zeros around the inputs.
            dilation: Distance of taps.
            groups: Number of groups.
            transposed: Output padding of a transposed convolution; None: an ordinary one.
        """
        dims = len(kernel)
        steps, zeros, gaps = (_each(values, dims) for values in (stride, padding, dilation))
        pads: list[int] = []
        for axis in reversed(range(dims)):
            if transposed is None:
                pads += [zeros[axis]] * 2
            else:
                reach = gaps[axis] * (kernel[axis] - 1) - zeros[axis]
                pads += [reach, reach + _each(transposed, dims)[axis]]
        return cls(
            kernel=tuple(kernel),
            stride=steps,
            dilation=gaps,
            pads=tuple(pads),
            groups=groups,
            transposed=transposed is not None,
        )

    def windows(
        self,
        inputs: Tensor,
        positions: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Input vectors of the weight's rows (O, I, *kernel), (G, N, I x kernel).

        Args:
            inputs: (B, C, *spatial), or (C, *spatial).
            positions: Maximum number of positions per example; None uses all.
            generator: Generator for the positions.
        """
        dims = len(self.kernel)
        patches = inputs if inputs.dim() > dims + 1 else inputs[None]
        if self.transposed:
            patches = _spread(patches, self.stride)
        patches = functional.pad(patches, self.pads, mode=self.mode)
        for axis in range(dims):  # a view (B, C, *spatial, *kernel): nothing is copied yet
            dilation = self.dilation[axis]
            extent = dilation * (self.kernel[axis] - 1) + 1
            step = 1 if self.transposed else self.stride[axis]
            patches = patches.unfold(2 + axis, extent, step)[..., ::dilation]
        shape = patches.shape[2 : 2 + dims]
        chosen = choose_positions(shape.numel(), positions, generator).to(inputs.device)
        index: tuple[slice | Tensor, ...] = (slice(None), slice(None))
        index += tuple(torch.unravel_index(chosen, shape))
        taken = patches[index]  # (B, C, P, *kernel)
        if self.transposed:  # an output reads the taps from the last to the first
            taken = taken.flip(tuple(range(3, 3 + dims)))
        taken = taken.flatten(3)
        batch, channels, count, size = taken.shape
        split = taken.reshape(batch, self.groups, channels // self.groups, count, size)
        return split.permute(1, 0, 3, 2, 4).reshape(self.groups, batch * count, -1)


def _each(values: Sequence[int], dims: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == dims else (int(values[0]),) * dims


def _spread(inputs: Tensor, stride: Sequence[int]) -> Tensor:
    """Put stride - 1 zeros between neighbouring inputs."""
    sizes = [(n - 1) * s + 1 for n, s in zip(inputs.shape[2:], stride, strict=True)]
    wide = inputs.new_zeros(*inputs.shape[:2], *sizes)
    view = wide
    for axis, step in enumerate(stride):
        view = view[(slice(None),) * (2 + axis) + (slice(None, None, step),)]
    view.copy_(inputs)
    return wide


def choose_positions(count: int, most: int | None, generator: torch.Generator | None) -> Tensor:
    """Ascending draw of at most `most` of `count` positions."""
    if most is None or count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:most].sort().values
