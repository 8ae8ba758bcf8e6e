"""A layer database on disk gives what one in memory gives, and is refused before it begins."""

from __future__ import annotations

import gc
import pickle
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from tests.support.rollout_parts import SIDE, table_of, tiny_network
from ws_learner.core import UserError, one_thread
from ws_learner.pruning import build_pattern_plan, parse_pattern
from ws_learner.search.rollout import spilled_database
from ws_learner.search.rollout.layer_database import LayerDatabase

LEVELS = (0.0, 0.25, 0.5, 0.9)


def network(kind: str = "convolutions") -> nn.Module:
    torch.manual_seed(0)
    if kind == "convolutions":
        return tiny_network().eval()
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.ReLU(), nn.Linear(8, 4))


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 3, SIDE, SIDE, generator=generator) for _ in range(4)]


def opened(model: nn.Module, folder: Path | None, pattern: str = "unstructured") -> LayerDatabase:
    names = [row.name for row in table_of(model)]
    with one_thread():
        return LayerDatabase.open(
            model,
            images,
            layers=table_of(model),
            levels=LEVELS,
            seed=0,
            facts={},
            cache_dir=folder,
            plan=build_pattern_plan(model, names, pattern=parse_pattern(pattern)),
        )


def same(ours: LayerDatabase, theirs: LayerDatabase, model: nn.Module) -> bool:
    shares = (*LEVELS, 0.4, 1.0)  # also counts that are not on the grid
    pairs = [(i, round(s * row.weights)) for i, row in enumerate(table_of(model)) for s in shares]
    with one_thread():
        return (
            np.array_equal(ours.curves()[1], theirs.curves()[1])
            and all(torch.equal(a, b) for a, b in zip(ours.grams, theirs.grams, strict=True))
            and all(torch.equal(ours.weights(*pair), theirs.weights(*pair)) for pair in pairs)
        )


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled_database, "SPILLED", 0)


@pytest.mark.parametrize("kind", ["convolutions", "linears"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("cached", [True, False])
def test_it_gives_what_a_database_in_memory_gives(
    kind: str, pattern: str, cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(kind)
    held = opened(model, None, pattern)
    monkeypatch.setattr(spilled_database, "SPILLED", 0)
    assert same(opened(model, tmp_path if cached else None, pattern), held, model)
    assert len(list(tmp_path.iterdir())) == cached


def test_a_temporary_file_goes_with_the_database(
    on_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    database = opened(network(), None)
    assert len(list(tmp_path.iterdir())) == 1
    del database
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_it_is_read_again_and_rebuilt_when_damaged(
    on_disk: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    first = opened(model, tmp_path)
    capsys.readouterr()
    assert same(opened(model, tmp_path), first, model)
    assert capsys.readouterr().err == ""
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for wrong in (whole[:-1], whole[:-8] + b"\0" * 8, b"no tensors"):
        file.write_bytes(wrong)
        assert same(opened(model, tmp_path), first, model)
        assert "rebuilding it" in capsys.readouterr().err


def test_the_file_is_a_safetensors_file(on_disk: None, tmp_path: Path) -> None:
    model = network()
    database = opened(model, tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        for layer, gram in enumerate(database.grams):
            assert torch.equal(file.get_tensor(f"gram.{layer}"), gram)
        assert np.array_equal(file.get_tensor("errors").numpy(), database.curves()[1])


def test_workers_of_this_machine_are_given_its_name_and_others_its_contents(
    on_disk: None, tmp_path: Path
) -> None:
    model = network()
    database = opened(model, tmp_path)
    copied = pickle.loads(pickle.dumps(database))
    with spilled_database.naming_files():
        named = pickle.dumps(database)
    assert same(pickle.loads(named), database, model)
    grams = sum(gram.nbytes for gram in database.grams)
    assert len(named) < len(pickle.dumps(database)) - grams
    (path,) = tmp_path.iterdir()
    path.unlink()
    assert all(bool(gram.any()) for gram in copied.grams)


def test_a_full_disk_is_refused_before_the_inputs_are_read(
    on_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 30, 1 << 30, 1 << 20))
    model = network()

    def never() -> list[Tensor]:
        raise AssertionError("the inputs were read")

    with pytest.raises(UserError, match=r"database: needs 0\.1 GiB in .*, 0\.0 GiB are free"):
        LayerDatabase.open(
            model,
            never,
            layers=table_of(model),
            levels=LEVELS,
            seed=0,
            facts={},
            cache_dir=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_a_build_that_fails_leaves_no_file(on_disk: None, tmp_path: Path) -> None:
    model = network()

    def broken() -> list[Tensor]:
        return [*images(), torch.full((2, 3, SIDE, SIDE), torch.nan)]

    with pytest.raises(ValueError, match="not finite"):
        LayerDatabase.open(
            model,
            broken,
            layers=table_of(model),
            levels=LEVELS,
            seed=0,
            facts={},
            cache_dir=tmp_path,
        )
    assert not list(tmp_path.iterdir())
