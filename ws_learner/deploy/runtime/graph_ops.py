"""Operations that a network's graph in a file may name: tensor arithmetic, nothing else.

A file names operations; only those listed here are ever called. None of them reads or writes
files, or runs code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.deploy.runtime.pooling import max_pool2d

__all__ = ["function_of", "name_of"]

_TEXT = """
__and__ __or__ _softmax _log_softmax _native_batch_norm_legit_no_training _to_copy _unsafe_view
abs acos adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d add
add_ addcmul addmm alias all amax amin any arange argmax argmin argsort asin atan atan2
avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bitwise_and bitwise_not bitwise_or
bitwise_xor bmm broadcast_to cat ceil channel_shuffle chunk clamp clamp_ clamp_max clamp_min
clone constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d copy_ cos cosine_similarity cross cumprod cumsum detach detach_ diagonal diff
div div_ dot einsum elu elu_ embedding embedding_bag eq erf exp expand expand_as expm1 eye
fill fill_ flatten flip floor floor_divide fmod full full_like gather ge gelu glu grid_sampler
group_norm gru gt hardsigmoid hardswish hardswish_ hardtanh hardtanh_ index index_add
index_select instance_norm isfinite isinf isnan layer_norm le leaky_relu leaky_relu_ lerp
lift_fresh lift_fresh_copy linalg_norm linalg_vector_norm linear linspace log log10 log1p log2
log_sigmoid log_softmax logaddexp logical_and logical_not logical_or logical_xor logsumexp
lstm lt mT masked_fill masked_fill_ matmul max max_pool1d max_pool2d max_pool3d maximum mean
meshgrid min minimum mish mm movedim mul mul_ mv narrow native_layer_norm ne neg new_full
new_ones new_zeros norm numpy_T one_hot ones ones_like outer pad permute pixel_shuffle
pixel_unshuffle pow prelu prod reciprocal reflection_pad2d relu relu6 relu_ remainder repeat
repeat_interleave replication_pad2d reshape rms_norm rnn_relu rnn_tanh roll round rsqrt rsub
scalar_tensor scaled_dot_product_attention scatter scatter_add select selu sigmoid sign silu
silu_ sin slice softmax softplus sort split split_with_sizes sqrt square squeeze stack std sub
sub_ sum swapaxes sym_numel sym_size t tan tanh tanh_ threshold tile to topk transpose tril
triu type_as unbind unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_nearest2d var var_mean view view_as where zeros zeros_like
"""
_ATEN = frozenset(_TEXT.split())
_PYTHON: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem")
}


_VISIBLE: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": functional.scaled_dot_product_attention,
    "gelu": functional.gelu,
    **{
        name: getattr(torch, name)
        for name in ("layer_norm", "add", "sub", "mul", "div", "matmul", "softmax", "relu", "tanh")
    },
    **{
        name: getattr(torch, name)
        for name in ("reshape", "transpose", "permute", "select", "unsqueeze", "masked_fill")
    },
    "max_pool2d": max_pool2d,
    "view": Tensor.view,
    "expand": Tensor.expand,
}
"""Called by PyTorch's own names, which take the same arguments, so that what looks into a network
with a `TorchFunctionMode`, as the runtime does, sees them."""
_OVERLOADS = ("default", "Tensor", "Scalar", "int")


def name_of(function: Any) -> str | None:
    """The name that a file gives an operation; None if a file cannot have it."""
    if isinstance(function, torch._ops.OpOverload):
        space, _, name = function._schema.name.partition("::")
        if space == "aten" and name in _ATEN:
            return f"aten.{name}.{function._overloadname}"
        return None
    return next((f"python.{name}" for name, own in _PYTHON.items() if own is function), None)


def function_of(name: str) -> Callable[..., Any]:
    """The operation of a name.

    Raises:
        ValueError: There is none, or a file may not name it.
    """
    parts = str(name).split(".")
    if parts[0] == "python" and parts[-1] in _PYTHON and len(parts) == 2:
        return _PYTHON[parts[1]]
    if len(parts) == 3 and parts[0] == "aten" and parts[1] in _ATEN:
        packet = getattr(torch.ops.aten, parts[1], None)
        if packet is not None and parts[2] in packet.overloads():
            found: Callable[..., Any] = getattr(packet, parts[2])
            return _VISIBLE.get(parts[1], found) if parts[2] in _OVERLOADS else found
    raise ValueError(f"operation {name}")
