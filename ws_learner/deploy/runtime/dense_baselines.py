"""Dense linear baselines: PyTorch's own layers, also used where no kernel exists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.spec import Activation
from ws_learner.deploy.runtime.quantisation import InputScale

__all__ = [
    "Runner",
    "activation_of",
    "dense_fp32",
    "dense_int8",
    "packed_fp32",
    "quantised",
    "torch_csr",
]

Runner = Callable[[Tensor], Tensor]
"""Maps contiguous (T, K) float32 to (T, N)."""


def activation_of(name: Activation) -> Runner:
    """As a function; ReLU overwrites its argument."""
    return {"relu": torch.relu_, "gelu": functional.gelu}.get(name, lambda y: y)


def packed_fp32(weight: Tensor, bias: Tensor | None, activation: Activation) -> Runner | None:
    """OneDNN's layer with its weight laid out beforehand; None where PyTorch has none."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 256)
    except (AttributeError, RuntimeError):
        return None
    place = torch.ops.mkldnn._linear_pointwise
    return lambda x: place(x, packed, bias, activation, [], "none")


def dense_fp32(weight: Tensor, bias: Tensor | None, activation: Activation) -> Runner:
    """`F.linear`, zeros and all."""
    after = activation_of(activation)
    return lambda x: after(functional.linear(x, weight, bias))


def torch_csr(weight: Tensor, bias: Tensor | None, activation: Activation) -> Runner:
    """PyTorch's compressed rows: for processors that no kernel is generated for."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is in beta
        rows = weight.to_sparse_csr()
    after = activation_of(activation)

    def run(x: Tensor) -> Tensor:
        y = (rows @ x.t().contiguous()).t().contiguous()
        return after(y if bias is None else y.add_(bias))

    return run


def dense_int8(
    weight: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    bias: Tensor | None,
    *,
    source: InputScale,
    activation: Activation,
) -> Runner | None:
    """PyTorch's oneDNN layer of bytes; None where this build of PyTorch has none."""
    try:
        wanted = torch.from_numpy(weight).clone()
        packed = torch.ops.onednn.qlinear_prepack(wanted, None)
    except (AttributeError, RuntimeError):
        return None
    steps, zeros = torch.from_numpy(scales), torch.zeros(len(scales), dtype=torch.int64)

    def run(x: Tensor) -> Tensor:
        whole = quantised(x, source)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole, source.scale, source.zero, packed, steps, zeros, bias),
            *(1.0, 0, torch.float32, activation, [], "none"),
        )
        return y

    return run


def quantised(x: Tensor, source: InputScale) -> Tensor:
    """Contiguous floats as bytes."""
    if not usable_isas():
        step = torch.clamp(torch.round(x * (1 / source.scale) + source.zero), 0, 255)
        return step.to(torch.uint8)
    from ws_learner.deploy.runtime.codegen.kernels import compiled_quantiser  # needs llvmlite

    readable(x, what="quantise", dtype=torch.float32, shape=tuple(x.shape))
    y = torch.empty(x.shape, dtype=torch.uint8, device="cpu")
    numbers = np.array([1 / source.scale, source.zero], np.float32)
    places = numbers.ctypes.data, x.data_ptr(), y.data_ptr(), 0
    compiled_quantiser()(*places, 0, x.numel())
    return y
