"""Hugging Face's BERT with one input tensor: word pieces to logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

from experiments.cli.dense_weights import load_dense_state
from experiments.models.bert import SIZES
from ws_learner.core import UserError
from ws_learner.data import MINILM, PAD, content

__all__ = [
    "SentenceClassifier",
    "SpanFinder",
    "bert_classifier",
    "bert_spans",
    "build_classifier",
    "minilm",
]

_LAYERS = 6
_SEP = 102  # ends a sentence, in BERT's own vocabulary
_NEVER = -1e4  # a logit for masked positions, finite in bfloat16


def _second(input_ids: Tensor) -> Tensor:
    """(B, T) segment ids: 1 after the end of the first sentence, else 0."""
    ends = (input_ids == _SEP).cumsum(1) - (input_ids == _SEP).long()
    return ((ends > 0) & (input_ids != PAD)).long()


class SentenceClassifier(BertForSequenceClassification):  # type: ignore[no-untyped-call]
    """`BertForSequenceClassification` with its keys; the input is padded word pieces only."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map (B, T) word pieces, 0 behind the end, to (B, labels) logits."""
        answer: Any = super().forward(
            input_ids, input_ids != PAD, token_type_ids=_second(input_ids)
        )
        logits: Tensor = answer.logits
        return logits


class SpanFinder(BertForQuestionAnswering):  # type: ignore[no-untyped-call]
    """`BertForQuestionAnswering` with its keys; the input is padded word pieces only."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map (B, T) word pieces to (B, T, 2) logits of an answer's start and end."""
        words = input_ids != PAD
        answer: Any = super().forward(input_ids, words, token_type_ids=_second(input_ids))
        logits = torch.stack([answer.start_logits, answer.end_logits], 2)
        return logits.masked_fill(~words[..., None], _NEVER)


def minilm(*, labels: int, layers: int = 6) -> nn.Module:
    """all-MiniLM-L6-v2 with a fresh classifier; its embeddings are frozen.

    Args:
        labels: Number of classes.
        layers: How many of its layers are there, the first ones.

    Raises:
        UserError: The pretrained weights cannot be had, or there are not so many layers.
    """
    if not 1 <= layers <= _LAYERS:
        raise UserError(f"--layers {layers}: MiniLM has {_LAYERS}; allowed are 1 to {_LAYERS}")
    network = build_classifier((_LAYERS, 384, 12, 1536), labels)
    _fill(network, load(content(MINILM)), "all-MiniLM-L6-v2")
    network.bert.encoder.layer = network.bert.encoder.layer[:layers]
    network.config.num_hidden_layers = layers
    network.bert.embeddings.requires_grad_(False)
    model: nn.Module = network
    return model


def bert_classifier(size: str, *, labels: int, pretrained: Path | None = None) -> nn.Module:
    """BERT of size mini, base or large (Turc et al. 2019, table 1; Devlin et al. 2019).

    Args:
        size: One of these.
        labels: Number of classes.
        pretrained: File of weights to start from; only its encoder is read.

    Raises:
        UserError: The file cannot be read or is of another network.
    """
    return _started(build_classifier(SIZES[size], labels), pretrained)


def bert_spans(size: str, *, pretrained: Path | None = None) -> nn.Module:
    """BERT with start and end logits for every word piece; see `bert_classifier`."""
    return _started(SpanFinder(_config(SIZES[size])), pretrained)


def _started(network: Any, pretrained: Path | None) -> nn.Module:
    if pretrained is not None:
        _fill(
            network,
            load_dense_state(pretrained, flag="--pretrained "),
            f"--pretrained {pretrained}",
        )
    model: nn.Module = network
    return model


def build_classifier(size: tuple[int, int, int, int], labels: int) -> Any:
    """A classifier with fresh weights; `size` is layers, width, heads and inner width."""
    config = _config(size)
    config.num_labels = labels
    return SentenceClassifier(config)


def _config(size: tuple[int, int, int, int]) -> Any:
    layers, width, heads, inner = size
    return BertConfig(
        vocab_size=30522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )


def _fill(network: Any, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all but the classifier; older files name norms and prefixes otherwise."""
    named = {}
    for name, tensor in state.items():
        key = name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias")
        if key.startswith(("embeddings.", "encoder.", "pooler.")):
            named[f"bert.{key}"] = tensor
    named.pop("bert.embeddings.position_ids", None)
    if getattr(network.bert, "pooler", None) is None:  # which spans do without
        named = {name: t for name, t in named.items() if not name.startswith("bert.pooler.")}
    wanted = {n: t.shape for n, t in network.state_dict().items() if n.startswith("bert.")}
    wrong = sorted(wanted.keys() ^ named.keys())
    wrong += sorted(n for n in wanted.keys() & named.keys() if wanted[n] != named[n].shape)
    if wrong:
        raise UserError(f"{origin}: is of another network; {wrong[0]} does not fit")
    network.load_state_dict(named, strict=False)
