"""2:4 weights in the compressed form that a GPU's sparse tensor cores read."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from ws_learner.errors import UserError
from ws_learner.sparsity.nm import NM

__all__ = ["is_two_of_four", "to_semi_structured"]

_MULTIPLES = {torch.float16: (32, 64), torch.bfloat16: (32, 64)}


def is_two_of_four(weight: torch.Tensor) -> bool:
    """Whether a matrix has at most 2 nonzero values in every 4 consecutive inputs.

    So has any 1:M and 2:M of a row with M a multiple of 4.
    """
    if weight.ndim != 2 or weight.shape[1] % 4:
        return False
    groups = weight.detach().reshape(-1, 4)
    return bool((groups.count_nonzero(1) <= 2).all())


def to_semi_structured(model: nn.Module, *, dtype: torch.dtype = torch.float16) -> list[str]:
    """Convert the network to `dtype`, and every 2:4 Linear weight to the compressed form.

    For inference: no gradient flows through a converted weight, and the state_dict is no longer
    that of a plain network, so save first.

    Args:
        model: On a CUDA device; changed in place.
        dtype: float16 or bfloat16.

    Returns:
        Names of the weights converted.

    Raises:
        UserError: There is no CUDA device, this GPU or torch cannot, or no weight is 2:4.
    """
    if dtype not in _MULTIPLES:
        raise UserError(f"to_semi_structured: {dtype} is not supported; float16 or bfloat16")
    where = next(model.parameters()).device
    if where.type != "cuda":
        raise UserError(
            f"to_semi_structured: the network is on {where}; the compressed 2:4 form exists on "
            "NVIDIA GPUs from compute capability 8.0 on (model.cuda() where there is one); on a "
            "CPU keep the plain weights"
        )
    capability = torch.cuda.get_device_capability(where)
    if capability < (8, 0):
        name = torch.cuda.get_device_name(where)
        raise UserError(f"to_semi_structured: {name} has no sparse tensor cores (needs 8.0)")
    rows, columns = _MULTIPLES[dtype]
    chosen = [
        (f"{name}.weight", module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.shape[0] % rows == 0
        and module.weight.shape[1] % columns == 0
        and is_two_of_four(module.weight)
    ]
    if not chosen:
        raise UserError(
            f"to_semi_structured: no Linear weight is {NM(2, 4)} with outputs a multiple of {rows} "
            f"and inputs of {columns}; train with --ws_pattern 2:4"
        )
    model.to(dtype)
    for name, module in chosen:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*prototype stage")
                sparse = torch.sparse.to_sparse_semi_structured(module.weight.detach().contiguous())
        except (RuntimeError, NotImplementedError) as error:
            raise UserError(f"to_semi_structured: {name}: torch refused it ({error})") from error
        module.weight = nn.Parameter(sparse, requires_grad=False)
    return [name for name, _ in chosen]
