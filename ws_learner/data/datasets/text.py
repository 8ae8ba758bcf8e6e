"""Text classification splits: TREC-6 questions and movie-review polarity, as word pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ws_learner.core import UserError
from ws_learner.data.datasets.text_resources import POLARITY, TREC, VOCABULARY
from ws_learner.data.resource import content
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts
from ws_learner.data.tokens import PAD, TokenSplit

__all__ = ["TREC_CLASSES", "load_polarity", "load_trec", "word_piece_cutter", "word_pieces"]

TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
_LONGEST = 64  # word pieces; the longest question has 41, a few dozen movie sentences have more

Text = str | tuple[str, str]
"""A sentence or a pair of sentences."""


def load_trec(data_dir: Path | None = None, *, split_seed: int = 0) -> DataSplits:
    """Load TREC-6 (Li & Roth 2002): 3,800 train, 300 search, 400 select, 882 test questions.

    All splits come from the official training file, without duplicate questions; the 500 official
    test questions are not read. Without `data_dir` the file comes from the cache, which the first
    call fills.

    Args:
        data_dir: Folder with train_5500.label and BERT's vocab.txt.
        split_seed: Seed of the stratified draw.

    Raises:
        UserError: `data_dir` lacks an intact file, or no source is reachable.
    """
    texts, labels = [], []
    for line in content(TREC, data_dir).decode().splitlines():
        kind, _, question = line.partition(" ")
        texts.append(question)
        labels.append(TREC_CLASSES.index(kind.partition(":")[0]))
    sizes = {"test": 882, "select": 400, "search": 300}
    source = ("trec6", TREC.digest, split_seed)
    return _splits(texts, labels, source=source, sizes=sizes, data_dir=data_dir)


def load_polarity(data_dir: Path | None = None, *, split_seed: int = 0) -> DataSplits:
    """Load movie-review polarity: 7,266 train, 500 search, 800 select, 2,000 test sentences.

    The sentences of Pang & Lee 2004, the source of SST-2, as rated by Hutto & Gilbert 2014,
    without 37 sentences with a mean rating of 0 and two duplicates.

    Args:
        data_dir: Folder with movieReviewSnippets_GroundTruth.txt and BERT's vocab.txt.
        split_seed: As for `load_trec`.

    Raises:
        UserError: As for `load_trec`.
    """
    rated: dict[str, float] = {}
    for line in content(POLARITY, data_dir).decode().splitlines():
        _, rating, text = line.split("\t")
        rated.setdefault(text.strip(), float(rating))
    kept = {text: rating for text, rating in rated.items() if rating}
    labels = [int(rating > 0) for rating in kept.values()]
    sizes = {"test": 2_000, "select": 800, "search": 500}
    source = ("polarity", POLARITY.digest, split_seed)
    return _splits(list(kept), labels, source=source, sizes=sizes, data_dir=data_dir)


def word_pieces(
    texts: Sequence[Text], *, data_dir: Path | None = None, longest: int = _LONGEST
) -> list[list[int]]:
    """Cut texts into BERT's lower-case word pieces: [CLS] text [SEP], or [CLS] a [SEP] b [SEP].

    Args:
        texts: Sentences or pairs.
        data_dir: Folder with vocab.txt; by default it comes from the cache.
        longest: Maximum number of word pieces of a text, including special ones.

    Raises:
        UserError: The package tokenizers is not installed, or the vocabulary is unavailable.
    """
    tokenizer = word_piece_cutter(data_dir)
    tokenizer.enable_truncation(longest)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def word_piece_cutter(data_dir: Path | None = None) -> Any:
    """BERT's lower-case `BertWordPieceTokenizer`, without truncation.

    Args:
        data_dir: Folder that may have a vocab.txt; by default it comes from the cache.

    Raises:
        UserError: The package tokenizers is not installed, or the vocabulary is unavailable.
    """
    try:
        from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    except ImportError as error:
        raise UserError("text needs the package tokenizers: pip install -e '.[text]'") from error
    # A user's folder of sentences need not hold BERT's vocabulary.
    own = data_dir if data_dir is not None and (data_dir / "vocab.txt").is_file() else None
    pieces = content(VOCABULARY, own).decode().splitlines()
    numbers = {piece: number for number, piece in enumerate(pieces)}
    return BertWordPieceTokenizer(numbers, lowercase=True)


def _splits(
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    source: tuple[str, str, int],
    sizes: dict[str, int],
    data_dir: Path | None,
) -> DataSplits:
    name, digest, seed = source
    sentences, classes = word_pieces(texts, data_dir=data_dir), np.array(labels, dtype=np.int64)
    *parts, train = stratified_parts(classes, sizes=list(sizes.values()), seed=seed)
    chosen = {part: np.sort(where) for part, where in zip(sizes, parts, strict=True)}
    chosen["train"] = np.sort(train)
    splits = {
        part: TokenSplit([sentences[position] for position in where], classes[where])
        for part, where in chosen.items()
    }
    identity = f"{name} {digest} {VOCABULARY.digest} {_LONGEST} seed {seed} {sorted(sizes.items())}"
    return DataSplits(
        name=name,
        digest=hashlib.sha256(identity.encode()).hexdigest(),
        num_classes=int(classes.max()) + 1,
        outputs="classes",
        input_shape=(_LONGEST,),
        pad_id=PAD,
        **splits,
    )
