"""2:4 weights in the compressed form that a GPU's sparse tensor cores read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from ws_learner.core import UserError, say
from ws_learner.pruning import NM

__all__ = ["is_two_of_four", "size_limits", "to_semi_structured", "why_dense"]

_DTYPES = (torch.float16, torch.bfloat16)


def size_limits(dtype: torch.dtype) -> tuple[int, int]:
    """(outputs, inputs) of which a weight must be multiples, as the installed torch has it.

    They depend on which of its two libraries torch compresses with: 16 x 16 for cuSPARSELt,
    32 x 64 for CUTLASS as of torch 2.13.
    """
    forced = torch.sparse.SparseSemiStructuredTensor._FORCE_CUTLASS
    kind = (
        torch.sparse.SparseSemiStructuredTensorCUTLASS
        if forced
        else torch.sparse.SparseSemiStructuredTensorCUSPARSELT
    )
    limits = kind._DTYPE_SHAPE_CONSTRAINTS[dtype]
    return limits.sparse_min_rows, limits.sparse_min_cols


def why_dense(weight: torch.Tensor, *, dtype: torch.dtype) -> str | None:
    """Why a Linear weight (outputs, inputs) cannot be compressed; None if it can."""
    rows, columns = size_limits(dtype)
    outputs, inputs = weight.shape
    if not is_two_of_four(weight):
        return f"is not {NM(2, 4)}"
    if outputs % rows or inputs % columns:
        return f"is {outputs}x{inputs}; torch takes multiples of {rows}x{columns}"
    return None


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
    that of a plain network, so save first. What stays dense is listed with the reason.

    Args:
        model: On a CUDA device; changed in place.
        dtype: float16 or bfloat16.

    Returns:
        Names of the weights converted.

    Raises:
        UserError: There is no CUDA device, this GPU or torch cannot, or no weight is 2:4.
    """
    if dtype not in _DTYPES:
        raise UserError(f"to_semi_structured: {dtype} is not supported; float16 or bfloat16")
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise UserError("to_semi_structured: the network has no weights (is it quantised?)")
    where = parameter.device
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
    linear = {
        f"{name}.weight".lstrip("."): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    reasons = {name: why_dense(module.weight, dtype=dtype) for name, module in linear.items()}
    chosen = [(name, module) for name, module in linear.items() if reasons[name] is None]
    if not chosen:
        raise UserError(
            f"to_semi_structured: no Linear weight fits ({_listed(reasons)}); train with "
            "`ws_pattern` 2:4"
        )
    if len(chosen) < len(linear):
        say(f"to_semi_structured: stays dense: {_listed(reasons)}")
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


def _listed(reasons: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {why}" for name, why in reasons.items() if why) or "there is none"
