"""`nn.MultiheadAttention` with separate q, k and v layers, so that heads can be removed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import UserError

__all__ = ["SplitAttention", "split_attention", "split_where_possible"]


class SplitAttention(nn.Module):
    """Attention equivalent to the `nn.MultiheadAttention` that it was made from.

    The number of heads times their width need not be the width of the inputs.
    """

    # PyTorch's encoder layers look at these before they take a fused path, which needs the
    # packed weight; so they must not take it.
    _qkv_same_embed_dim = False
    in_proj_bias = None
    in_proj_weight = None

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        """Take the weights of `whole` over.

        Raises:
            UserError: It has extra key and value rows (`add_bias_kv`, `add_zero_attn`).
        """
        super().__init__()
        if whole.bias_k is not None or whole.add_zero_attn:
            raise UserError(
                "nn.MultiheadAttention with add_bias_kv or add_zero_attn cannot be split into "
                "layers of its own, so a network that has one cannot be shrunk"
            )
        self.num_heads, self.dropout = whole.num_heads, whole.dropout
        self.batch_first = whole.batch_first
        if whole._qkv_same_embed_dim:
            weights = whole.in_proj_weight.chunk(3)
        else:
            weights = (whole.q_proj_weight, whole.k_proj_weight, whole.v_proj_weight)
        bias = whole.in_proj_bias
        biases = (None, None, None) if bias is None else bias.chunk(3)
        parts = [_linear(w, b) for w, b in zip(weights, biases, strict=True)]
        self.q_proj, self.k_proj, self.v_proj = parts
        self.out_proj = _linear(whole.out_proj.weight, whole.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention`: (B, L, E), (L, B, E) unless batch_first, or (L, E) alone."""
        if query.dim() == 2:
            one = 0 if self.batch_first else 1
            padding = None if key_padding_mask is None else key_padding_mask[None]
            output, shown = self(
                *(x.unsqueeze(one) for x in (query, key, value)),
                key_padding_mask=padding,
                need_weights=need_weights,
                attn_mask=attn_mask,
                average_attn_weights=average_attn_weights,
            )
            return output.squeeze(one), None if shown is None else shown[0]
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        q, k, v = (x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if attn_mask is not None:
            scores = scores + _added(attn_mask.view(-1, *attn_mask.shape[-2:]), scores)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask[:, None, None], scores)
        weights = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        output = self.out_proj(mixed)
        output = output if self.batch_first else output.transpose(0, 1)
        shown = weights.mean(1) if average_attn_weights else weights
        return output, shown if need_weights else None


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask as numbers to add: minus infinity where it is True."""
    if mask.dim() == 3:  # one for all, or one per example and head
        mask = mask.view(-1, scores.shape[1] if len(mask) > 1 else 1, *mask.shape[1:])
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, float("-inf"))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def split_attention(model: nn.Module) -> None:
    """Replace every `nn.MultiheadAttention` inside `model`, in place.

    Its projections then are layers that `mha` and the shrink find.

    Raises:
        UserError: One has extra key and value rows.
    """
    for parent, attribute, child, _ in _attentions(model):
        setattr(parent, attribute, SplitAttention(child).train(child.training))


def split_where_possible(model: nn.Module) -> list[str]:
    """Replace those that can be split; return the names of the others."""
    whole = []
    for parent, attribute, child, name in _attentions(model):
        watched = child._forward_hooks or child._forward_pre_hooks or "forward" in vars(child)
        own = type(child).forward is not nn.MultiheadAttention.forward
        if child.bias_k is not None or child.add_zero_attn or watched or own:
            whole.append(name)
        else:
            setattr(parent, attribute, SplitAttention(child).train(child.training))
    return whole


def _attentions(model: nn.Module) -> list[tuple[nn.Module, str, nn.MultiheadAttention, str]]:
    """Parent, attribute, module and name."""
    return [
        (module, attribute, child, f"{name}.{attribute}".lstrip("."))
        for name, module in model.named_modules()
        for attribute, child in module.named_children()
        if isinstance(child, nn.MultiheadAttention)
    ]
