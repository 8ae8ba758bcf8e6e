"""BERT encoders (Devlin et al. 2019, section 3) with Hugging Face's parameter names."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ws_learner.core import UserError

__all__ = ["SIZES", "Bert", "bert"]

# Size -> layers, width, heads, inner width; the small ones are Turc et al. 2019, table 1.
SIZES = {
    "mini": (4, 256, 4, 1024),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}
_WORDS, _PLACES, _SEGMENTS = 30522, 512, 2
_EPSILON = 1e-12


class _SelfAttention(nn.Module):
    """Keys, queries and values of all heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.all_head_size = heads, width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, L, W) to (B, L, W); `mask` (B, L) is True at words."""

        def split(y: Tensor) -> Tensor:
            return y.reshape(*y.shape[:2], self.num_attention_heads, -1).transpose(1, 2)

        seen = None if mask is None else mask[:, None, None].bool()
        mixed = nn.functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), attn_mask=seen
        )
        return mixed.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """A linear layer, dropout, and the norm of its sum with the residual stream."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Add to `residual` (B, L, W)."""
        result: Tensor = self.LayerNorm(residual + self.dropout(self.dense(x)))
        return result


class _Layer(nn.Module):
    """Attention, then two linear layers with GELU between."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        attention = {"self": _SelfAttention(width, heads), "output": _Output(width, width)}
        self.attention = nn.ModuleDict(attention)
        # A sequence, so that `compile_sparse` sees which activation follows.
        parts = {"dense": nn.Linear(width, inner), "activation": nn.GELU()}
        self.intermediate = nn.Sequential(OrderedDict(parts))
        self.output = _Output(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        x = self.attention["output"](self.attention["self"](x, mask), x)
        result: Tensor = self.output(self.intermediate(x), x)
        return result


class Bert(nn.Module):
    """The encoder under `bert`, and a head: `classifier`, or `qa_outputs` for spans."""

    def __init__(
        self, size: tuple[int, int, int, int], *, labels: int = 2, spans: bool = False
    ) -> None:
        super().__init__()
        layers, width, heads, inner = size
        self.bert = nn.Module()
        self.bert.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(_WORDS, width, padding_idx=0),
                "position_embeddings": nn.Embedding(_PLACES, width),
                "token_type_embeddings": nn.Embedding(_SEGMENTS, width),
                "LayerNorm": nn.LayerNorm(width, eps=_EPSILON),
            }
        )
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleList(_Layer(width, heads, inner) for _ in range(layers))
        self.spans = spans
        if spans:
            self.qa_outputs = nn.Linear(width, 2)
        else:
            self.bert.pooler = nn.ModuleDict({"dense": nn.Linear(width, width)})
            self.classifier = nn.Linear(width, labels)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Map word pieces (B, L) to logits (B, labels), or to (B, L, 2) for start and end."""
        tables: nn.ModuleDict = self.bert.embeddings  # type: ignore[assignment]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = tables["word_embeddings"](input_ids) + tables["position_embeddings"](places)
        x = tables["LayerNorm"](x + tables["token_type_embeddings"](segments))
        for layer in self.bert.encoder.layer:  # type: ignore[union-attr]
            x = layer(x, attention_mask)
        if self.spans:
            logits: Tensor = self.qa_outputs(x)
            return logits
        pooler: nn.ModuleDict = self.bert.pooler  # type: ignore[assignment]
        logits = self.classifier(torch.tanh(pooler["dense"](x[:, 0])))
        return logits


def bert(size: str, *, labels: int = 2, spans: bool = False) -> nn.Module:
    """Build BERT of size mini, base or large.

    Raises:
        UserError: The size is none of these.
    """
    if size not in SIZES:
        raise UserError(f"bert: size {size} is not known. Allowed: {', '.join(SIZES)}")
    return Bert(SIZES[size], labels=labels, spans=spans)
