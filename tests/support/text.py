"""A tiny BERT, a vocabulary of a few words, and made-up sentences."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ws_learner.data.resource import Resource
from ws_learner.data.tokens import TokenSplit

WORDS = ("who", "what", "where", "is", "the", "mayor", "city", "river", "?", "a", "good", "bad")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)


def tiny_bert(labels: int = 3, seed: int = 0, **changes: int) -> nn.Module:
    from transformers import BertConfig

    from experiments.models.sentence_bert import SentenceClassifier

    sizes = {"vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    config = BertConfig(**sizes | changes, num_attention_heads=2, num_labels=labels)
    torch.manual_seed(seed)
    return SentenceClassifier(config)


def sentences(count: int, seed: int = 0, longest: int = 9) -> TokenSplit:
    """Classes differ by a word that is somewhere in the sentence."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=count)
    rows = []
    for label in labels:
        middle = rng.integers(20, 90, size=rng.integers(1, longest - 1))
        middle[rng.integers(0, len(middle))] = 10 + label
        rows.append([101, *middle.tolist(), 102])
    return TokenSplit(rows, labels)


def known(resource: Resource, data: bytes, folder: Path) -> Resource:
    """The resource as if its content were `data`, served from a file in `folder`."""
    from ws_learner.data.resource import from_url

    path = folder / Path(resource.file).name
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    source = from_url(path.as_uri(), digest=digest, megabytes=0)
    return replace(resource, digest=digest, sources=(source,))


def serve_vocabulary(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make `word_pieces` use the words above."""
    from ws_learner.data.datasets import text, text_resources

    folder.mkdir(exist_ok=True)
    data = "\n".join(VOCABULARY).encode()
    patch.setattr(text, "VOCABULARY", known(text_resources.VOCABULARY, data, folder))
    patch.setenv("WS_DATA_DIR", str(folder / "cache"))
