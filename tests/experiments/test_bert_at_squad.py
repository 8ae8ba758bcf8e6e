"""SQuAD: windows, answers, the official measures, and the table's configs on a hand-made file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from experiments.run import main
from tests.support.text import VOCABULARY, WORDS, serve_vocabulary
from ws_learner.core.errors import UserError
from ws_learner.data.datasets.squad import Windows, cut_windows, find_answers, load_squad
from ws_learner.data.datasets.squad_file import Question, exact_match, f1, read_squad, score_answers
from ws_learner.data.datasets.text import word_piece_cutter

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"


@pytest.fixture(autouse=True)
def _words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_vocabulary(tmp_path / "words", monkeypatch)


def squad(folder: Path, *, paragraphs: int = 60) -> Path:
    """`where is the X ?`: the answer is the word behind X."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", paragraphs), ("dev", 12)):
        parts = []
        for number in range(count):
            words = [str(w) for w in rng.choice(["a", "is", "the", "who", "what"], size=12)]
            asked, answers = ["mayor", "city", "river"], ["good", "bad"]
            for place, word in zip((2, 6, 10), asked, strict=True):
                words[place : place + 2] = [word, answers[int(rng.integers(2))]]
            context, starts = " ".join(words), np.cumsum([0, *(len(w) + 1 for w in words)])
            parts.append(
                {
                    "context": context,
                    "qas": [
                        {
                            "id": f"{name}{number}{word}",
                            "question": f"Where is the {word}?",
                            "answers": [{"text": words[p + 1], "answer_start": int(starts[p + 1])}],
                        }
                        for p, word in zip((2, 6, 10), asked, strict=True)
                    ],
                }
            )
        text = json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": parts}]})
        (folder / f"{name}-v1.1.json").write_text(text)
    return folder


# Worked by hand from the definition: words are lower case, without punctuation and a, an, the.
WORKED = [
    ("Denver Broncos", "Denver Broncos", 1.0, 1.0),
    ("the Denver Broncos!", "denver broncos", 1.0, 1.0),
    ("Broncos", "Denver Broncos", 0.0, 2 / 3),
    ("Denver, Denver", "Denver Broncos", 0.0, 0.5),
    ("in the city of Denver", "Denver", 0.0, 0.4),
    ("Carolina Panthers", "Denver Broncos", 0.0, 0.0),
    ("theatre", "the atre", 0.0, 0.0),
]


@pytest.mark.parametrize(("given_", "truth", "exact", "overlap"), WORKED)
def test_worked_examples(given_: str, truth: str, exact: float, overlap: float) -> None:
    assert exact_match(given_, truth) == exact
    assert f1(given_, truth) == pytest.approx(overlap)


@given(st.text("ab the.", max_size=12), st.text("ab the.", max_size=12))
def test_f1_is_symmetric_and_no_less_than_the_exact_match(one: str, other: str) -> None:
    assert f1(one, other) == f1(other, one)
    assert 0 <= f1(one, other) <= 1
    if exact_match(one, one) and f1(one, one):
        assert f1(one, one) == 1.0


def test_the_best_answer_counts_and_a_missing_one_is_wrong() -> None:
    common = {"text": "?", "context": "x y", "paragraph": 0}
    asked = [
        Question(key="a", answers=(("x", 0), ("x y", 0)), **common),
        Question(key="b", answers=(("y", 2),), **common),
    ]
    assert score_answers(asked, {"a": "x y"}) == {"exact match": 50.0, "F1": 50.0}
    found = score_answers(asked, {"a": "y", "b": "x y"})
    assert found == {"exact match": 0.0, "F1": pytest.approx(200 / 3)}


def question(context: str, answer: str, *, text: str = "where is the city?") -> Question:
    return Question(
        key="q",
        text=text,
        context=context,
        paragraph=0,
        answers=((answer, context.index(answer)),),
    )


def cut(one: Question, *, longest: int, overlap: int) -> Windows:
    return cut_windows([one], word_piece_cutter(), longest=longest, overlap=overlap)


def test_a_long_paragraph_is_cut_into_windows_that_overlap() -> None:
    context = " ".join(["the"] * 65 + ["good"] + ["a"] * 54)
    windows = cut(question(context, "good"), longest=80, overlap=10).windows
    room = 80 - 5 - 3  # five pieces of the question, three special ones
    starts = range(0, 120 - 10, room - 10)
    assert len(windows) == len(starts)
    number = VOCABULARY.index("good")
    for window, start in zip(windows, starts, strict=True):
        inside = window.places[:, 0] >= 0
        stretch = [context[a:b] for a, b in window.places[inside]]
        assert stretch == context.split()[start : start + room]
        at = [place for place, piece in enumerate(window.pieces) if piece == number]
        assert window.target == ((at[0], at[0]) if at else (0, 0))
        assert len(window.pieces) <= 80
    assert sum(window.target != (0, 0) for window in windows) == 2


def test_a_long_question_is_cut() -> None:
    long = question("the city is good", "good", text=" ".join(["what"] * 100))
    (window,) = cut(long, longest=80, overlap=5).windows
    assert window.pieces.count(VOCABULARY.index("what")) == 62
    with pytest.raises(UserError, match="`longest` 80: at least 88 with `overlap` 20"):
        cut(long, longest=80, overlap=20)


@given(st.integers(0, 2**32 - 1))
def test_the_answer_is_the_best_allowed_span(seed: int) -> None:
    rng = np.random.default_rng(seed)
    context = " ".join(rng.choice(WORDS[:9], size=14))
    windows = cut(question(context, context.split()[0]), longest=80, overlap=8)
    (window,) = windows.windows
    logits = rng.normal(size=(1, len(window.pieces), 2)).astype(np.float32)
    found = find_answers(windows, lambda _: torch.from_numpy(logits))["q"]
    inside = [place for place, (a, _) in enumerate(window.places) if a >= 0]
    best = max(
        ((a, b) for a in inside for b in inside if a <= b < a + 30),
        key=lambda span: logits[0, span[0], 0] + logits[0, span[1], 1],
    )
    ranks = [int((logits[0, :, i] > logits[0, p, i]).sum()) for i, p in enumerate(best)]
    if max(ranks) < 20:
        assert found == context[window.places[best[0], 0] : window.places[best[1], 1]]


def test_paragraphs_are_in_one_part_each(tmp_path: Path) -> None:
    folder = squad(tmp_path / "squad")
    data, test = load_squad(folder, longest=96, overlap=16)
    sizes = [len(part) for part in (data.train, data.search, data.select, data.test)]
    assert sizes == [180 - 36, 18, 18, 36]
    assert len(test.questions) == 36
    seen = []
    for part in (data.train, data.search, data.select):
        ((inputs, _),) = part.batches(500)
        rows = [tuple(row[8:].tolist()) for row in inputs]  # behind [CLS], question and [SEP]
        seen.append({tuple(n for n in row if n) for row in rows})
    assert not seen[0] & (seen[1] | seen[2])
    assert not seen[1] & seen[2]


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    folder = squad(tmp_path / "squad", paragraphs=2)
    path = folder / "train-v1.1.json"
    whole = path.read_text()
    with pytest.raises(UserError, match="6 training questions are too few"):
        load_squad(folder)
    path.write_text(whole.replace('"answer_start": ', '"answer_start": 1', 1))
    with pytest.raises(UserError, match=r"question train0mayor: .* is not at 1"):
        read_squad(path)
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "x"}]}]}))
    with pytest.raises(UserError, match=r"not SQuAD's JSON \(KeyError: 'qas'\)"):
        read_squad(path)
    asked = {"id": "7", "question": "?", "answers": [], "is_impossible": True}
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "x", "qas": [asked]}]}]}))
    with pytest.raises(UserError, match=r"question 7 has no answer; SQuAD 2\.0 is not supported"):
        read_squad(path)
    path.unlink()
    with pytest.raises(UserError, match=r"no train-v1\.1\.json there"):
        load_squad(folder)


def test_networks_keys_are_the_stock_ones_and_padding_is_never_an_answer() -> None:
    from transformers import BertForQuestionAnswering

    from experiments.models.sentence_bert import bert_spans

    model = bert_spans("mini").eval()
    assert set(model.state_dict()) == set(BertForQuestionAnswering(model.config).state_dict())
    inputs = torch.tensor([[101, 7, 102, 9, 102, 0, 0]])
    with torch.no_grad():
        outputs = model(inputs)
        stock = BertForQuestionAnswering.forward(
            model,
            inputs,
            (inputs != 0).long(),
            token_type_ids=torch.tensor([[0, 0, 0, 1, 1, 0, 0]]),
        )
    assert torch.allclose(outputs[0, :5, 0], stock.start_logits[0, :5])
    assert torch.allclose(outputs[0, :5, 1], stock.end_logits[0, :5])
    assert bool((outputs[0, 5:] == -1e4).all())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "share"), [("bert_mini_4x1_squad", 0.8), ("bert_mini_2in4_squad", 0.5)]
)
def test_a_config_trains(tmp_path: Path, config: str, share: float) -> None:
    words = ["bert_at_squad", "--data_dir", str(squad(tmp_path / "squad"))]
    words += ["--longest", "96", "--overlap", "16", "--config", str(CONFIGS / f"{config}.yaml")]
    words += ["--batch_size", "16", "--lrn_rate", "5e-4", "--run_dir", str(tmp_path / "run")]
    assert main(words) == 0
    state = load_file(tmp_path / "run" / "model.safetensors")
    pruned = [t for n, t in state.items() if n.startswith("bert.encoder.") and t.dim() == 2]
    zeros = sum(int((t == 0).sum()) for t in pruned)
    assert zeros / sum(t.numel() for t in pruned) == pytest.approx(share, abs=1e-3)
    for tensor in pruned:
        if share == 0.5:
            assert bool((tensor.view(-1, 4).ne(0).sum(1) == 2).all())
        else:
            blocks = tensor.reshape(-1, 4, tensor.shape[1]).ne(0).sum(1)
            assert set(blocks.unique().tolist()) <= {0, 4}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    measures = summary["measures"]
    assert measures["F1"] >= measures["exact match"] > 60  # one of two words by chance: 50
    assert main(["--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
