"""Modules that replace linear layers and convolutions in a compiled network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import check_settings
from ws_learner.deploy.runtime.codegen.buffers import floats_of
from ws_learner.deploy.runtime.codegen.live_blocks import LiveBlocks
from ws_learner.deploy.runtime.codegen.sparse_images import ImageKernel
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel, Tokens
from ws_learner.deploy.runtime.codegen.spec import Activation, Spec
from ws_learner.deploy.runtime.conv_baselines import conv_int8, dense_conv, packed_conv
from ws_learner.deploy.runtime.dense_baselines import (
    Runner,
    dense_fp32,
    dense_int8,
    packed_fp32,
    torch_csr,
)
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

__all__ = ["Geometry", "LayerData", "Replaced", "Run", "matrix_of"]

Run = Runner | Tokens | ImageKernel
"""What computes a layer."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a convolution walks over its input; pairs are (down, across).

    Attributes:
        kernel: Taps.
        stride: Steps between outputs.
        padding: Zeros at each border.
        dilation: Steps between taps.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def arguments(self) -> tuple[list[int], list[int], list[int]]:
        """Stride, padding and dilation, as PyTorch's operators take them."""
        return list(self.stride), list(self.padding), list(self.dilation)

    def is_common(self) -> bool:
        """Whether oneDNN's convolution of bytes is right; its outputs are garbage for some others.

        Seen with padding as wide as the kernel, and with dilation where an output side is 1.
        """
        close = all(pad < taps for pad, taps in zip(self.padding, self.kernel, strict=True))
        return close and self.dilation == (1, 1)

    def outputs(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output for (B, C, H, W).

        Raises:
            RuntimeError: The image is smaller than the kernel.
        """
        sizes = [
            (size + 2 * pad - (taps - 1) * gap - 1) // step + 1
            for size, taps, step, pad, gap in zip(
                x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        if min(sizes) < 1:
            raise RuntimeError(
                f"Kernel size {self.kernel} can't be greater than the padded input's "
                f"{tuple(n + 2 * p for n, p in zip(x.shape[2:], self.padding, strict=True))}"
            )
        return sizes[0], sizes[1]

    def columns(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, taps x C, positions), inputs innermost."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        high, wide = self.outputs(x)
        if ph or pw:
            x = functional.pad(x, (pw, pw, ph, ph))
        parts = [
            x[:, :, i : i + (high - 1) * sh + 1 : sh, j : j + (wide - 1) * sw + 1 : sw]
            for i in range(0, kh * self.dilation[0], self.dilation[0])
            for j in range(0, kw * self.dilation[1], self.dilation[1])
        ]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return whole.reshape(*whole.shape[:2], high * wide).contiguous()


@dataclass(kw_only=True, eq=False)
class LayerData:
    """Weights and settings of one layer, without a kernel.

    Attributes:
        weight: (N, K) float32; convolutions as a matrix of taps x inputs.
        bias: (N,) or None.
        activation: What follows and is done in the same pass.
        geometry: Of a convolution, or None.
        source: How inputs are quantised, if they can be.
        innermost: Whether a convolution's weight lies with its channels innermost.
        factor: (N,) of a batch norm that was folded into weight and bias, or None.
        bytes_: The weight as int8 and each output's scale before that factor, once asked for.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None
    activation: Activation = "none"
    geometry: Geometry | None = None
    source: InputScale | None = None
    innermost: bool = False
    factor: npt.NDArray[np.float32] | None = None
    bytes_: tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]] | None = field(default=None)

    def __post_init__(self) -> None:
        check_settings(self)

    def quantised(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        """The weight as bytes."""
        weight, scales = self.stored_bytes()
        return weight, scales if self.factor is None else scales * self._divisor()

    def stored_bytes(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        """As `quantised`, for a file: the scales are those of the weight before a batch norm."""
        if self.bytes_ is None:
            weight, scales = quantise_weight(self.weight)
            self.bytes_ = weight, scales if self.factor is None else scales / self._divisor()
        return self.bytes_

    def _divisor(self) -> npt.NDArray[np.float32]:
        """The factor; 1 where it is 0, for weights are zeros then."""
        assert self.factor is not None
        one = np.float32(1)
        divisor: npt.NDArray[np.float32] = np.where(self.factor == 0, one, self.factor)
        return divisor

    @cached_property
    def live(self) -> LiveBlocks:
        """Which blocks of the weight hold anything."""
        return LiveBlocks(self.weight)

    @cached_property
    def live_bytes(self) -> LiveBlocks:
        """Of the weight as bytes: some of its smallest numbers become zeros."""
        return LiveBlocks(self.quantised()[0])

    @cached_property
    def row_sums(self) -> npt.NDArray[np.int64]:
        """(N,) sums of the weight as bytes."""
        sums: npt.NDArray[np.int64] = self.quantised()[0].sum(axis=1, dtype=np.int64)
        return sums

    def __deepcopy__(self, memo: object) -> LayerData:
        """Nothing changes it once it has its kernels: copies of a network share it."""
        return self

    def kernel(
        self, spec: Spec, *, source: InputScale | None = None, target: InputScale | None = None
    ) -> SparseKernel:
        """Bind the layer to a kernel; the spec's activation is overwritten by the layer's."""
        spec = replace(spec, activation=self.activation)
        if not spec.int8:
            return SparseKernel(spec, self.weight, self.bias, target=target, live=self.live)
        weight, scales = self.quantised()
        return SparseKernel(
            spec,
            weight,
            self.bias,
            scales=scales,
            source=source or self.source,
            target=target,
            live=self.live_bytes,
            sums=self.row_sums,
        )

    def bound(self, spec: Spec) -> SparseKernel | ImageKernel:
        """Bind the layer to a kernel of any layout."""
        if spec.layout != "images":
            return self.kernel(spec)
        if self.geometry is None:
            raise RuntimeError("a kernel for images needs a convolution")
        spec = replace(spec, activation=self.activation)
        weight, scales = self.quantised() if spec.int8 else (self.weight, None)
        source = self.source if spec.int8 else None
        return ImageKernel(spec, weight, self.bias, self.geometry, scales=scales, source=source)

    def dense(self) -> Runner:
        """PyTorch's own layer, and the activation."""
        run = self.rival("dense")
        assert run is not None  # it is in every build of PyTorch
        return run

    def rival(self, name: str) -> Runner | None:
        """The dense or portable path called `name`: (T, K) to (T, N), or images to images."""
        bias = None if self.bias is None else torch.from_numpy(self.bias)
        if self.geometry is not None:
            return self._image_baseline(name, bias, self.geometry)
        if name == "dense int8":
            if self.source is None:
                return None
            weight, scales = self.quantised()
            return dense_int8(weight, scales, bias, source=self.source, activation=self.activation)
        make = {"torch csr": torch_csr, "dense onednn": packed_fp32}.get(name, dense_fp32)
        return make(torch.from_numpy(self.weight), bias, self.activation)

    def _image_baseline(self, name: str, bias: Tensor | None, geometry: Geometry) -> Runner | None:
        walk, activation = geometry.arguments(), self.activation
        if name == "dense int8":
            if self.source is None or not geometry.is_common():
                return None
            whole, scales = self.quantised()
            weight, source = _images(whole, geometry), self.source
            return conv_int8(weight, scales, bias, walk, source=source, activation=activation)
        make = {"dense onednn": packed_conv}.get(name, dense_conv)
        return make(_images(self.weight, geometry), bias, walk, activation)


def _images(matrix: npt.NDArray[Any], geometry: Geometry) -> Tensor:
    """(N, taps x C) as (N, C, *taps); lies as channels_last does."""
    return torch.from_numpy(matrix).view(len(matrix), *geometry.kernel, -1).permute(0, 3, 1, 2)


def matrix_of(module: nn.Linear | nn.Conv2d) -> npt.NDArray[np.float32]:
    """The weight as (N, K): taps x inputs for a convolution, as patterns are cut."""
    weight = module.weight.detach().float()
    if weight.dim() == 4:
        weight = weight.permute(0, 2, 3, 1)
    return np.ascontiguousarray(weight.reshape(len(weight), -1).numpy())


class Replaced(nn.Module):
    """A linear layer or convolution run by a chosen kernel. Inference only."""

    def __init__(
        self,
        data: LayerData,
        make: Callable[[], Run],
        *,
        threads: int,
        floats: Callable[[], Runner] | None = None,
    ) -> None:
        """Run the layer, or those that begin with it.

        Args:
            data: Of the first layer.
            make: Gives what it runs by, when it is needed.
            threads: That may be used.
            floats: Gives the same by PyTorch's dense layers; by default that of `data`.
        """
        super().__init__()
        geometry = data.geometry
        weight = torch.from_numpy(data.weight)
        # Networks ask their layers for device and type; the memory is the kernels' source.
        self.weight = nn.Parameter(
            weight if geometry is None else _images(data.weight, geometry), requires_grad=False
        )
        bias = None if data.bias is None else torch.from_numpy(data.bias)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._floats, self.exact = floats or data.dense, False
        self.data, self.threads = data, threads
        self._make: Callable[[], Run] = make
        self._made: Run | None = None

    @property
    def run(self) -> Run:
        """The function that computes the layer."""
        if self.exact:
            return self._floats()
        if self._made is None:
            self._made = self._make()
        return self._made

    def take_kernel(self, other: Replaced) -> None:
        """Reuse the kernel that a copy of this module has built, if any."""
        self._made = other._made

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) to (..., N), or images (B, C, H, W) or (C, H, W).

        Raises:
            RuntimeError: The input does not fit the layer, or is not float32.
        """
        x = floats_of(input)
        if self.data.geometry is not None:
            return self._convolve(x, self.data.geometry)
        inputs = self.data.weight.shape[1]
        if not x.dim() or x.shape[-1] != inputs:
            raise RuntimeError(
                f"a layer of {inputs} inputs cannot be given an input of shape {tuple(x.shape)}"
            )
        flat = (x if x.dim() == 2 else x.reshape(-1, inputs)).contiguous()
        run = self.run
        y = run.tokens(flat, threads=self.threads) if isinstance(run, Tokens) else run(flat)  # type: ignore[operator]
        return y if x.dim() == 2 else y.view(*x.shape[:-1], y.shape[-1])

    def _convolve(self, x: Tensor, geometry: Geometry) -> Tensor:
        run = self.run
        if isinstance(run, ImageKernel) and self.threads == 1 and not self.data.innermost:
            known = run.again(x)
            if known is not None:
                return known
        images = x.unsqueeze(0) if x.dim() == 3 else x
        channels = self.data.weight.shape[1] // math.prod(geometry.kernel)
        if images.dim() != 4 or images.shape[1] != channels:
            raise RuntimeError(
                f"a convolution of {channels} channels cannot be given an input of shape "
                f"{tuple(x.shape)}"
            )
        high, wide = geometry.outputs(images)
        if isinstance(run, ImageKernel):
            y = run.images(images, (high, wide), threads=self.threads)
        elif isinstance(run, SparseKernel):
            y = run.channels(geometry.columns(images), threads=self.threads)
            y = y.view(len(images), y.shape[1], high, wide)
        else:
            y = run(images)  # type: ignore[operator]
        # As PyTorch's layer leaves it: what comes after may take a view.
        last = self.data.innermost or (
            images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        )
        y = y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        return y.squeeze(0) if x.dim() == 3 else y

    def extra_repr(self) -> str:
        """Shape and kernel."""
        n, k = self.data.weight.shape
        run = self._made
        if isinstance(run, SparseKernel | ImageKernel):
            return f"{k}, {n}, {run.spec.name}, activation={self.data.activation}"
        if isinstance(run, Tokens):
            return f"{k}, {run.outputs}, several layers in one"
        return f"{k}, {n}"
