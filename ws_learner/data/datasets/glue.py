"""GLUE tasks from a user's folder: SST-2 and MRPC as tab-separated files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from ws_learner.core import UserError
from ws_learner.data.datasets.text import Text, word_pieces
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts
from ws_learner.data.tokens import PAD, TokenSplit

__all__ = ["GlueTask", "load_glue"]

GlueTask = Literal["sst2", "mrpc"]

_FILES = ("train.tsv", "dev.tsv")
_COLUMNS: dict[GlueTask, tuple[tuple[str, ...], str]] = {
    "sst2": (("sentence",), "label"),
    "mrpc": (("#1 String", "#2 String"), "Quality"),
}
_SHARE, _MOST = 0.1, 2_000  # of the training file, each for search and select
_LONGEST = 128  # word pieces of an example

Rows = tuple[list[Text], list[int]]


def load_glue(
    task: GlueTask, data_dir: Path, *, split_seed: int = 0, longest: int = _LONGEST
) -> DataSplits:
    """Read train.tsv and dev.tsv (Wang et al. 2019); dev is the test split.

    The labels of the official test sets are not public. A tenth of the training file, at most
    2,000 examples, is the search split, and as many are the select split.

    Args:
        task: `sst2` (a sentence, positive or not) or `mrpc` (two sentences, alike or not).
        data_dir: Folder with both files and, optionally, BERT's vocab.txt.
        split_seed: Seed of the draw of search and select examples.
        longest: Maximum number of word pieces of an example.

    Raises:
        UserError: A file is missing or does not have the task's layout.
    """
    paths = [_find(data_dir, name) for name in _FILES]
    (texts, labels), (test_texts, test_labels) = (_read(path, task) for path in paths)
    classes = np.array(labels, dtype=np.int64)
    size = min(_MOST, int(_SHARE * len(texts)))
    search, select, train = stratified_parts(classes, sizes=(size, size), seed=split_seed)
    if not (len(search) and len(select)):
        raise UserError(f"`data_dir` {data_dir}: {len(texts)} training examples are too few")
    cut: Callable[[list[Text]], list[list[int]]] = lambda some: word_pieces(  # noqa: E731
        some, data_dir=data_dir, longest=longest
    )
    pieces = cut(texts)
    splits = {
        name: TokenSplit([pieces[place] for place in np.sort(part)], classes[np.sort(part)])
        for name, part in (("search", search), ("select", select), ("train", train))
    }
    contents = b"".join(path.read_bytes() for path in paths)
    digest = hashlib.sha256(contents + f"{task} {split_seed} {longest} {size}".encode())
    return DataSplits(
        name=task,
        digest=digest.hexdigest(),
        num_classes=2,
        outputs="classes",
        input_shape=(longest,),
        test=TokenSplit(cut(test_texts), np.array(test_labels, dtype=np.int64)),
        pad_id=PAD,
        **splits,
    )


def _find(data_dir: Path, name: str) -> Path:
    path = data_dir / name
    if not path.is_file():
        raise UserError(
            f"`data_dir` {data_dir}: no {name} there; expected {' and '.join(_FILES)} of the task"
        )
    return path


def _read(path: Path, task: GlueTask) -> Rows:
    wanted, target = _COLUMNS[task]
    texts: list[Text] = []
    labels: list[int] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        lacking = [name for name in (*wanted, target) if name not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(
                f"{path}: no column {lacking[0]!r} in its first line, which {task} requires; "
                f"found {', '.join(reader.fieldnames or ()) or 'nothing'}"
            )
        for row in reader:
            parts = [row[name] for name in wanted]
            if None in parts or row[target] not in ("0", "1"):
                raise UserError(
                    f"{path}, line {reader.line_num}: expected text and a {target} of 0 or 1"
                )
            texts.append((parts[0], parts[1]) if len(parts) == 2 else parts[0])
            labels.append(int(row[target]))
    if not texts:
        raise UserError(f"{path}: contains no examples")
    return texts, labels
