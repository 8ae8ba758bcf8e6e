"""SQuAD splits as windows of word pieces, and answers from a network's logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ws_learner.core import AnyPath, UserError, as_path, track
from ws_learner.data.datasets.squad_file import Question, read_squad
from ws_learner.data.datasets.text import word_piece_cutter
from ws_learner.data.splits import DataSplits
from ws_learner.data.tokens import PAD, TokenSplit

__all__ = ["Window", "Windows", "cut_windows", "find_answers", "load_squad"]

_TRAIN, _TEST = "train-v1.1.json", "dev-v1.1.json"
_SHARE, _MOST = 0.1, 2_000  # of the training questions, each for search and select
_QUESTION = 64  # maximum word pieces of a question (Devlin et al. 2019, the authors' code)
_AT_ONCE = 1_000  # questions
_BEST, _LONGEST_ANSWER = 20, 30  # candidate starts and ends; word pieces of an answer

Predict = Callable[[Tensor], Tensor]
"""(B, T) word pieces -> (B, T, 2) logits of an answer's start and end."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A question and a span of its paragraph.

    Attributes:
        question: Number of the question.
        pieces: [CLS] question [SEP] span [SEP].
        places: (T, 2) start and end (exclusive) characters in the paragraph; -1 for pieces
            outside the span.
        target: First and last piece of the answer; (0, 0), [CLS], if it is not fully inside.
    """

    question: int
    pieces: list[int]
    places: npt.NDArray[np.int64]
    target: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All windows of a list of questions, in order."""

    questions: Sequence[Question]
    windows: Sequence[Window]

    def split(self) -> TokenSplit:
        """Inputs (B, T) and targets (B, 2)."""
        targets = np.array([window.target for window in self.windows], dtype=np.int64)
        return TokenSplit([window.pieces for window in self.windows], targets)


def load_squad(
    data_dir: AnyPath, *, longest: int = 384, overlap: int = 128, split_seed: int = 0
) -> tuple[DataSplits, Windows]:
    """Read train-v1.1.json and dev-v1.1.json; dev is the test split.

    The official test set is not public. A tenth of the training questions, at most 2,000, is the
    search split, and as many are the select split. No paragraph is in two splits.

    Args:
        data_dir: Folder with both files and, optionally, BERT's vocab.txt.
        longest: Maximum number of word pieces of a window.
        overlap: Number of paragraph word pieces that consecutive windows share.
        split_seed: Seed of the draw of search and select paragraphs.

    Returns:
        The splits, and the windows of the test split.

    Raises:
        UserError: A file is missing or malformed.
    """
    data_dir = as_path(data_dir, name="data_dir")
    for name in (_TRAIN, _TEST):
        if not (data_dir / name).is_file():
            raise UserError(f"`data_dir` {data_dir}: no {name} there; SQuAD 1.1 has both files")
    train, test = (read_squad(data_dir / name) for name in (_TRAIN, _TEST))
    size = min(_MOST, int(_SHARE * len(train)))
    parts = _by_paragraph(train, sizes=(size, size), seed=split_seed)
    if not all(parts):
        raise UserError(f"`data_dir` {data_dir}: {len(train)} training questions are too few")
    cutter = word_piece_cutter(data_dir)
    cut = [cut_windows(some, cutter, longest=longest, overlap=overlap) for some in (*parts, test)]
    splits = dict(zip(("search", "select", "train", "test"), cut, strict=True))
    contents = b"".join((data_dir / name).read_bytes() for name in (_TRAIN, _TEST))
    digest = hashlib.sha256(contents + f"{longest} {overlap} {split_seed} {size}".encode())
    data = DataSplits(
        name="squad",
        digest=digest.hexdigest(),
        num_classes=2,
        outputs="classes",
        input_shape=(longest,),
        pad_id=PAD,
        **{name: windows.split() for name, windows in splits.items()},
    )
    return data, splits["test"]


def _by_paragraph(
    questions: Sequence[Question], *, sizes: Sequence[int], seed: int
) -> list[list[Question]]:
    """Assign whole paragraphs to each part until it is full; the rest is the last part."""
    count = max(question.paragraph for question in questions) + 1
    order = np.random.default_rng(seed).permutation(count)
    about: list[list[Question]] = [[] for _ in range(count)]
    for question in questions:
        about[question.paragraph].append(question)
    parts: list[list[Question]] = [[] for _ in range(len(sizes) + 1)]
    number = 0
    for paragraph in order:
        while number < len(sizes) and len(parts[number]) >= sizes[number]:
            number += 1
        parts[number] += about[paragraph]
    return parts


def cut_windows(
    questions: Sequence[Question], cutter: Any, *, longest: int, overlap: int
) -> Windows:
    """Cut every question and its paragraph into windows of at most `longest` word pieces.

    Args:
        questions: The questions.
        cutter: See `word_piece_cutter`.
        longest: Maximum number of word pieces, including the question and three special ones.
        overlap: Number of word pieces that consecutive windows share.

    Raises:
        UserError: A window would have no room for new word pieces.
    """
    if longest < _QUESTION + overlap + 4:
        raise UserError(
            f"`longest` {longest}: at least {_QUESTION + overlap + 4} with `overlap` {overlap}"
        )
    windows: list[Window] = []
    with track("cutting into word pieces", total=len(questions)) as progress:
        for start in range(0, len(questions), _AT_ONCE):
            some = questions[start : start + _AT_ONCE]
            cutter.no_truncation()
            cut = cutter.encode_batch([question.text for question in some])
            asked = [
                one.text if len(whole.ids) <= _QUESTION else one.text[: _end(whole)]
                for one, whole in zip(some, cut, strict=True)
            ]
            cutter.enable_truncation(longest, stride=overlap, strategy="only_second")
            pairs = [(text, one.context) for text, one in zip(asked, some, strict=True)]
            for number, whole in enumerate(cutter.encode_batch(pairs)):
                parts = (whole, *whole.overflowing)
                windows += [_window(start + number, part, some[number]) for part in parts]
            progress.advance(len(some))
    return Windows(questions=questions, windows=windows)


def _end(cut: Any) -> int:
    """End of the last word piece of a truncated question; [CLS] and [SEP] count."""
    end: int = cut.offsets[_QUESTION - 2][1]
    return end


def _window(number: int, part: Any, question: Question) -> Window:
    inside = np.array([owner == 1 for owner in part.sequence_ids])
    places = np.where(inside[:, None], np.array(part.offsets, dtype=np.int64), -1)
    text, start = question.answers[0]
    (first,) = np.nonzero(inside & (places[:, 0] <= start) & (start < places[:, 1]))
    stop = start + len(text)
    (last,) = np.nonzero(inside & (places[:, 0] < stop) & (stop <= places[:, 1]))
    found = len(first) and len(last)
    target = (int(first[0]), int(last[-1])) if found else (0, 0)
    return Window(question=number, pieces=list(part.ids), places=places, target=target)


def find_answers(windows: Windows, predict: Predict, *, batch_size: int = 32) -> dict[str, str]:
    """Return the answer of each question, by key: the largest sum of start and end logit.

    The maximum is over all windows of the question, over the 20 largest starts and ends of each
    and answers of at most 30 word pieces (Devlin et al. 2019, section 4.2, and the authors' code).
    """
    best: dict[int, tuple[float, str]] = {}
    reader = windows.split().batches(batch_size)
    rows = (row for inputs, _ in reader for row in predict(inputs).float().cpu().numpy())
    with track("answering", total=len(windows.windows)) as progress:
        for window, logits in zip(windows.windows, rows, strict=True):
            question = windows.questions[window.question]
            score, (start, stop) = _best_span(logits[: len(window.pieces)], window.places)
            if window.question not in best or score > best[window.question][0]:
                best[window.question] = (score, question.context[start:stop])
            progress.advance()
    return {windows.questions[number].key: text for number, (_, text) in best.items()}


def _best_span(
    logits: npt.NDArray[np.float32], places: npt.NDArray[np.int64]
) -> tuple[float, tuple[int, int]]:
    """Largest sum and its characters; minus infinity if no span is allowed."""
    starts, ends = (np.argsort(-column, kind="stable")[:_BEST] for column in logits.T)
    sums = logits[starts, 0][:, None] + logits[ends, 1]
    length = ends - starts[:, None] + 1
    inside = (places[starts, 0] >= 0)[:, None] & (places[ends, 0] >= 0)
    sums = np.where(inside & (length >= 1) & (length <= _LONGEST_ANSWER), sums, -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    if not np.isfinite(sums[first, last]):
        return -np.inf, (0, 0)
    return float(sums[first, last]), (int(places[starts[first], 0]), int(places[ends[last], 1]))
