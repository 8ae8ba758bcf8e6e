"""A network of transformers' Llama class as the decode engine takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.deploy.decode.network import Network, Sizes, check_network, padded
from ws_learner.deploy.decode.numbers import Floats, group_nibbles, row_bytes
from ws_learner.deploy.decode.packing import Packed, pack_bytes, pack_floats, pack_nibbles

__all__ = ["DTYPES", "network_of"]

DTYPES = ("fp32", "int8", "int4")
_ROTARY = ("default", "linear", "llama3", "yarn")


def network_of(
    model: Any, *, dtype: str, group: int, tokenizer: str = "", least_zeros: float = 0.25
) -> Network:
    """Pack a network's weights.

    Args:
        model: `LlamaForCausalLM` of transformers, zeros in place.
        dtype: One of `DTYPES`.
        group: Inputs that share a scale, for `int4`.
        tokenizer: The tokenizer's file.
        least_zeros: Share of zeros from which a layer gets masks.

    Raises:
        UserError: The network is of another type, or has parts that are not supported.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: give one of {', '.join(DTYPES)}")
    if group not in (32, 64):
        raise UserError(f"group={group!r}: give 32 or 64")
    sizes, frequencies = _sizes(model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    pack = _packer(dtype, group, least_zeros)
    matrices: dict[str, Packed] = {}
    norms: dict[str, Floats] = {"last": _floats(state["model.norm.weight"])}
    for i in range(sizes.blocks):
        base = f"model.layers.{i}."
        norms[f"{i}.attention"] = _floats(state[f"{base}input_layernorm.weight"])
        norms[f"{i}.feed_forward"] = _floats(state[f"{base}post_attention_layernorm.weight"])
        parts = [_layer(state, f"{base}self_attn.{n}_proj") for n in "qkv"]
        matrices[f"{i}.qkv"] = pack(*_joined(parts, each=1))
        matrices[f"{i}.o"] = pack(*_layer(state, f"{base}self_attn.o_proj"))
        parts = [_layer(state, f"{base}mlp.{n}_proj") for n in ("gate", "up")]
        matrices[f"{i}.gate_up"] = pack(*_joined(parts, each=padded(sizes.inner)))
        matrices[f"{i}.down"] = pack(*_layer(state, f"{base}mlp.down_proj"))
    rows, head = _floats(state["model.embed_tokens.weight"]), _layer(state, "lm_head")
    whole = dtype == "fp32"
    embedding = (
        pack_floats(rows, masked=False) if whole else pack_bytes(row_bytes(rows), masked=False)
    )
    matrices["embedding"] = embedding
    tied = head[1] is None and np.array_equal(head[0], rows)
    if not tied or dtype == "int4":
        matrices["head"] = pack(*head, dense=True)
    end = model.generation_config.eos_token_id if model.generation_config else None
    end = model.config.eos_token_id if end is None else end
    return check_network(
        Network(
            sizes=sizes,
            dtype=dtype,
            matrices=matrices,
            norms=norms,
            frequencies=frequencies,
            end=() if end is None else tuple(end) if isinstance(end, list) else (int(end),),
            tokenizer=tokenizer,
        )
    )


def _sizes(model: Any) -> tuple[Sizes, Floats]:
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind != "llama" or config is None or not hasattr(model, "lm_head"):
        raise UserError(
            f"model of type {kind}: only LlamaForCausalLM of transformers can be compiled as a "
            "whole; compile_sparse replaces the linear layers of others"
        )
    rotary = model.model.rotary_emb
    if config.hidden_act not in ("silu", "swish") or rotary.rope_type not in _ROTARY:
        raise UserError(
            f"model with activation {config.hidden_act} and rotary type {rotary.rope_type}: only "
            f"silu and {', '.join(_ROTARY)} are supported; use PyTorch"
        )
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = Sizes(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        inner=config.intermediate_size,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        depth=depth,
        positions=config.max_position_embeddings,
        epsilon=float(config.rms_norm_eps),
        rotary_scale=float(rotary.attention_scaling),
    )
    return sizes, _floats(rotary.inv_freq)


def _floats(tensor: Tensor) -> Floats:
    found: Floats = tensor.detach().float().cpu().numpy()
    if not np.isfinite(found).all():
        raise UserError("the network has weights that are not finite; it cannot be compiled")
    return np.ascontiguousarray(found)


def _layer(state: dict[str, Tensor], name: str) -> tuple[Floats, Floats | None]:
    bias = state.get(f"{name}.bias")
    return _floats(state[f"{name}.weight"]), None if bias is None else _floats(bias)


def _joined(
    parts: list[tuple[Floats, Floats | None]], *, each: int
) -> tuple[Floats, Floats | None]:
    """Matrices one below the other, each with at least `each` rows."""
    rows = [np.pad(w, ((0, max(each - len(w), 0)), (0, 0))) for w, _ in parts]
    biases = [
        np.zeros(len(r), np.float32) if b is None else np.pad(b, (0, len(r) - len(b)))
        for r, (_, b) in zip(rows, parts, strict=True)
    ]
    none = all(bias is None for _, bias in parts)
    return np.concatenate(rows), None if none else np.concatenate(biases)


def _packer(dtype: str, group: int, least_zeros: float) -> Callable[..., Packed]:
    def pack(weight: Floats, bias: Floats | None, *, dense: bool = False) -> Packed:
        masked = not dense and float((weight == 0).mean()) >= least_zeros
        if dtype == "fp32":
            return pack_floats(weight, bias=bias, masked=masked)
        if dtype == "int8":
            return pack_bytes(row_bytes(weight), bias=bias, masked=masked)
        matrix = group_nibbles(weight, group=group, masked=masked)
        return pack_nibbles(matrix, bias=bias, masked=masked)

    return pack
