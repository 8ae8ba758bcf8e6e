"""A network of transformers' Llama class as the decode engine takes it."""

from __future__ import annotations

from typing import Any

from ws_learner.deploy.decode.network import Network, Sizes, padded
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.packing import Packed
from ws_learner.deploy.decode.weights import Pack, end_tokens, floats, joined, layer, with_words

__all__ = ["llama_limit", "llama_network"]

_ROTARY = ("default", "linear", "llama3", "yarn")


def llama_limit(model: Any) -> str:
    """What the native step lacks for this `LlamaForCausalLM`; empty if nothing."""
    config, rotary = model.config, model.model.rotary_emb
    if config.hidden_act not in ("silu", "swish"):
        return f"activation {config.hidden_act}"
    if rotary.rope_type not in _ROTARY:
        return f"rotary type {rotary.rope_type}"
    depth = _depth(config)
    return f"heads of depth {depth}, not of a multiple of 16" if depth % 16 else ""


def llama_network(model: Any, pack: Pack, *, dtype: str, tokenizer: str) -> Network:
    """Pack the weights of a `LlamaForCausalLM` that `llama_limit` allows."""
    sizes = _sizes(model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    matrices: dict[str, Packed] = {}
    norms: dict[str, Floats] = {"last": floats(state["model.norm.weight"])}
    for i in range(sizes.blocks):
        base = f"model.layers.{i}."
        norms[f"{i}.attention"] = floats(state[f"{base}input_layernorm.weight"])
        norms[f"{i}.feed_forward"] = floats(state[f"{base}post_attention_layernorm.weight"])
        parts = [layer(state, f"{base}self_attn.{n}_proj") for n in "qkv"]
        matrices[f"{i}.qkv"] = pack(*joined(parts, each=1))
        matrices[f"{i}.o"] = pack(*layer(state, f"{base}self_attn.o_proj"))
        parts = [layer(state, f"{base}mlp.{n}_proj") for n in ("gate", "up")]
        matrices[f"{i}.gate_up"] = pack(*joined(parts, each=padded(sizes.inner)))
        matrices[f"{i}.down"] = pack(*layer(state, f"{base}mlp.down_proj"))
    rows, head = floats(state["model.embed_tokens.weight"]), layer(state, "lm_head")
    return Network(
        sizes=sizes,
        dtype=dtype,
        matrices=matrices | with_words(rows, head, dtype=dtype, pack=pack),
        norms=norms,
        frequencies=floats(model.model.rotary_emb.inv_freq),
        end=end_tokens(model),
        tokenizer=tokenizer,
    )


def _sizes(model: Any) -> Sizes:
    config = model.config
    return Sizes(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        inner=config.intermediate_size,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        depth=_depth(config),
        positions=config.max_position_embeddings,
        epsilon=float(config.rms_norm_eps),
        rotary_scale=float(model.model.rotary_emb.attention_scaling),
    )


def _depth(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)
