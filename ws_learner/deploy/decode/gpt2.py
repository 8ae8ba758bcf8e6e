"""A network of transformers' GPT-2 class as the decode engine takes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ws_learner.deploy.decode.network import Network, Sizes, padded
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.packing import Packed
from ws_learner.deploy.decode.weights import Pack, end_tokens, floats, joined, layer, with_words

__all__ = ["gpt2_limit", "gpt2_network"]

_GELU_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def gpt2_limit(model: Any) -> str:
    """What the native step lacks for this `GPT2LMHeadModel`; empty if nothing."""
    config = model.config
    if config.activation_function not in _GELU_TANH:
        return f"activation {config.activation_function}"
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        return "another scale of attention"
    if config.add_cross_attention:
        return "cross-attention"
    depth = config.n_embd // config.n_head
    return f"heads of depth {depth}, not of a multiple of 16" if depth % 16 else ""


def gpt2_network(model: Any, pack: Pack, *, dtype: str, tokenizer: str) -> Network:
    """Pack the weights of a `GPT2LMHeadModel` that `gpt2_limit` allows."""
    config = model.config
    sizes = Sizes(
        vocabulary=config.vocab_size,
        width=config.n_embd,
        inner=config.n_inner or 4 * config.n_embd,
        blocks=config.n_layer,
        heads=config.n_head,
        groups=config.n_head,
        depth=config.n_embd // config.n_head,
        positions=config.n_positions,
        epsilon=float(config.layer_norm_epsilon),
    )
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    matrices: dict[str, Packed] = {}
    norms: dict[str, Floats] = {}
    for i in range(sizes.blocks):
        base = f"transformer.h.{i}."
        _keep_norm(norms, f"{i}.attention", state, f"{base}ln_1")
        _keep_norm(norms, f"{i}.feed_forward", state, f"{base}ln_2")
        matrices[f"{i}.qkv"] = pack(*_turned(state, f"{base}attn.c_attn"))
        matrices[f"{i}.o"] = pack(*_turned(state, f"{base}attn.c_proj"))
        up = [_turned(state, f"{base}mlp.c_fc")]
        matrices[f"{i}.up"] = pack(*joined(up, each=padded(sizes.inner)))
        matrices[f"{i}.down"] = pack(*_turned(state, f"{base}mlp.c_proj"))
    _keep_norm(norms, "last", state, "transformer.ln_f")
    rows, head = floats(state["transformer.wte.weight"]), layer(state, "lm_head")
    return Network(
        sizes=sizes,
        architecture="gpt2",
        dtype=dtype,
        matrices=matrices | with_words(rows, head, dtype=dtype, pack=pack),
        norms=norms,
        frequencies=np.zeros(0, np.float32),
        positions=floats(state["transformer.wpe.weight"]).reshape(-1),
        end=end_tokens(model),
        tokenizer=tokenizer,
    )


def _keep_norm(norms: dict[str, Floats], name: str, state: dict[str, Tensor], own: str) -> None:
    norms[name], norms[f"{name}.bias"] = (floats(state[f"{own}.{n}"]) for n in ("weight", "bias"))


def _turned(state: dict[str, Tensor], name: str) -> tuple[Floats, Floats | None]:
    """A `Conv1D`, whose weight is (inputs, outputs), as (N, K)."""
    return floats(state[f"{name}.weight"].T), floats(state[f"{name}.bias"])
