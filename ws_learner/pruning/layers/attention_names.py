"""What attention modules call their projections, their number of heads and their widths.

Known are the names of timm, Hugging Face (ViT, Swin, BERT, Llama and relatives) and torch. Every
search for attentions reads these tables; to support another naming scheme, add its names here.
"""

from __future__ import annotations

__all__ = [
    "ATTENTIONS",
    "ATTENTION_WIDTHS",
    "FUSED",
    "HEAD_COUNTS",
    "KEYS",
    "OUTPUTS",
    "OUTPUTS_BESIDE",
    "QUERIES",
    "TORCH_PARAMETERS",
    "VALUES",
]

QUERIES = ("query", "q_proj", "q_lin", "to_q", "wq", "q")
KEYS = ("key", "k_proj", "k_lin", "to_k", "wk", "k")
VALUES = ("value", "v_proj", "v_lin", "to_v", "wv", "v")
FUSED = ("qkv", "qkv_proj", "in_proj", "c_attn", "to_qkv")
"""One layer for queries, keys and values."""

_OUTPUTS = ("out_proj", "o_proj", "out_lin", "to_out", "to_out.0", "wo", "o", "proj", "dense")
OUTPUTS = (*_OUTPUTS, "output")
"""The output projection inside the attention module, as a path from it."""

OUTPUTS_BESIDE = ("output.dense", *_OUTPUTS)
"""The output projection in the attention's parent, as a path from the parent."""

TORCH_PARAMETERS: dict[str, tuple[str, ...]] = {
    "in_proj_weight": ("q", "k", "v"),
    "q_proj_weight": ("q",),
    "k_proj_weight": ("k",),
    "v_proj_weight": ("v",),
}
"""Parameters of `torch.nn.MultiheadAttention` and the role of each equal slice of their rows."""

ATTENTIONS = ("attn", "attention", "self_attn", "self_attention", "cross_attn")
"""Modules that are attentions or hold one."""

HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads", "nhead", "heads", "n_head")
"""Attributes that state the number of heads."""

ATTENTION_WIDTHS = ("all_head_size", "inner_dim", "attn_dim")
"""Attributes that state the width of all heads together."""
