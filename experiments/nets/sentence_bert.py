"""Hugging Face's BERT as a network of one tensor: word pieces in, logits out."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from ws_learner.data.resource import content
from ws_learner.data.text_resources import MINILM
from ws_learner.data.tokens import PAD

__all__ = ["SentenceClassifier", "minilm"]

_SEP = 102  # ends a sentence, in BERT's own vocabulary


class SentenceClassifier(BertForSequenceClassification):  # type: ignore[no-untyped-call]
    """`BertForSequenceClassification`, its keys and all, called with padded word pieces alone."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map (B, T) word pieces, 0 behind the end, to (B, labels) logits."""
        words = input_ids != PAD
        ends = (input_ids == _SEP).cumsum(1) - (input_ids == _SEP).long()
        second = (ends > 0) & words  # what comes after the first sentence's end
        answer: Any = super().forward(input_ids, words, token_type_ids=second.long())
        logits: Tensor = answer.logits
        return logits


def minilm(*, labels: int) -> nn.Module:
    """all-MiniLM-L6-v2 with a fresh classifier; its embeddings are frozen.

    Raises:
        UserError: The pretrained weights cannot be had.
    """
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    config.num_labels = labels
    network = SentenceClassifier(config)
    pretrained = load(content(MINILM))
    named = {
        f"bert.{name}": tensor
        for name, tensor in pretrained.items()
        if not name.endswith("position_ids")
    }
    missing, strange = network.load_state_dict(named, strict=False)
    if strange or set(missing) != {"classifier.weight", "classifier.bias"}:
        raise RuntimeError(f"MiniLM's weights do not fit: {missing}, {strange}")
    network.bert.embeddings.requires_grad_(False)
    with torch.no_grad():
        network.classifier.bias.zero_()
    model: nn.Module = network
    return model
