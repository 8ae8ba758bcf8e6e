"""Types of networks that have a native step."""

from __future__ import annotations

from typing import Any

from ws_learner.core import UserError
from ws_learner.deploy.decode.gpt2 import gpt2_limit, gpt2_network
from ws_learner.deploy.decode.llama import llama_limit, llama_network
from ws_learner.deploy.decode.network import Network, check_network
from ws_learner.deploy.decode.weights import packer

__all__ = ["network_of", "why_not_native"]

_TYPES = {
    "llama": ("LlamaForCausalLM", llama_limit, llama_network),
    "gpt2": ("GPT2LMHeadModel", gpt2_limit, gpt2_network),
}


def why_not_native(model: Any) -> str:
    """Why the native step cannot run a network; empty if it can."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in _TYPES:
        return f"type {kind}"
    name, limit, _ = _TYPES[kind]
    if type(model).__name__ != name:  # another head, or a class derived from it
        return f"class {type(model).__name__}"
    return limit(model)


def network_of(
    model: Any, *, dtype: str, group: int, tokenizer: str = "", least_zeros: float = 0.25
) -> Network:
    """Pack a network's weights.

    Args:
        model: Of a class that `why_not_native` allows, zeros in place.
        dtype: `fp32`, `int8` or `int4`.
        group: Inputs that share a scale, for `int4`.
        tokenizer: The tokenizer's file.
        least_zeros: Share of zeros from which a layer gets masks.

    Raises:
        UserError: The network is of another type, or has parts that are not supported.
    """
    pack = packer(dtype=dtype, group=group, least_zeros=least_zeros)
    if why := why_not_native(model):
        raise UserError(f"no native step for this network ({why}); use compile_sparse_lm")
    build = _TYPES[model.config.model_type][2]
    return check_network(build(model, pack, dtype=dtype, tokenizer=tokenizer))
