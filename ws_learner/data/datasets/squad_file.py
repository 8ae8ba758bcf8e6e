"""SQuAD 1.1 files (Rajpurkar et al. 2016) and its metrics, exact match and F1."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws_learner.core import UserError

__all__ = ["Question", "exact_match", "f1", "read_squad", "score_answers"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one paragraph.

    Attributes:
        key: `id` in the file.
        text: The question.
        context: The paragraph.
        paragraph: Number of the paragraph in its file.
        answers: (text, first character in the context) of one or more annotators.
    """

    key: str
    text: str
    context: str
    paragraph: int
    answers: tuple[tuple[str, int], ...]


def read_squad(path: Path) -> list[Question]:
    """Read a file such as train-v1.1.json.

    Raises:
        UserError: The file cannot be read, is malformed, or has questions without an answer
            (version 2.0).
    """
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        paragraphs = [part for article in articles for part in article["paragraphs"]]
        found = [
            _question(path, one, part["context"], number)
            for number, part in enumerate(paragraphs)
            for one in part["qas"]
        ]
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not SQuAD's JSON ({type(error).__name__}: {error})") from error
    if not found:
        raise UserError(f"{path}: contains no questions")
    return found


def _question(path: Path, one: Mapping[str, Any], context: str, paragraph: int) -> Question:
    answers = tuple((str(a["text"]), int(a["answer_start"])) for a in one["answers"])
    if not answers:
        raise UserError(
            f"{path}: question {one['id']} has no answer; SQuAD 2.0 is not supported, give v1.1"
        )
    for text, start in answers:
        if context[start : start + len(text)] != text:
            raise UserError(f"{path}: question {one['id']}: {text!r} is not at {start}")
    return Question(
        key=str(one["id"]),
        text=str(one["question"]).strip(),
        context=context,
        paragraph=paragraph,
        answers=answers,
    )


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(given: str, truth: str) -> float:
    """1 if both have the same words, else 0; ignores case, punctuation and articles."""
    return float(_words(given) == _words(truth))


def f1(given: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the words, counted with repetition."""
    ours, theirs = _words(given), _words(truth)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def score_answers(questions: Sequence[Question], given: Mapping[str, str]) -> dict[str, float]:
    """Compute `exact match` and `F1` in percent: best over a question's answers, then the mean.

    Args:
        questions: The questions.
        given: Answers by question key; a question without an answer scores 0.
    """

    def best(measure: Callable[[str, str], float]) -> float:
        scores = [
            max(measure(given[q.key], truth) for truth, _ in q.answers) if q.key in given else 0.0
            for q in questions
        ]
        return 100 * sum(scores) / len(scores)

    return {"exact match": best(exact_match), "F1": best(f1)}
