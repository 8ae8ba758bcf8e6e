"""Attribute names that attention modules use for their sizes."""

from __future__ import annotations

__all__ = ["HEADS", "WIDTHS"]

HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
"""The number of heads."""

WIDTHS = ("all_head_size", "inner_dim", "attn_dim")
"""The width of all heads together."""
