"""Runs of the command line with a damaged file: one line with the file, exit code 2, no result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import export
from experiments.run import main
from tests.support import tiny_experiment

pytestmark = pytest.mark.long
TINY = str(Path(tiny_experiment.__file__))
FLAGS = ["--precision", "fp32", "--nb_epochs", "1", "--workers", "0", "--ws_prune_ratio", "0.5"]
FLAGS += ["--ws_nb_rlouts", "12", "--ws_nb_rlouts_min", "6", "--ddpg_actor_width", "8"]
FLAGS += ["--ddpg_critic_width", "8", "--ws_nb_rescore", "2", "--ws_init", "scratch"]
EVAL = [TINY, "--exec_mode", "eval"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    os.environ["WS_DATA_DIR"] = str(folder / "cache")
    dense = [TINY, "--learner", "full-prec", "--precision", "fp32", "--nb_epochs", "1"]
    assert main([*dense, "--run_dir", str(folder / "dense")]) == 0
    assert main([*words(folder), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def words(folder: Path) -> list[str]:
    return [TINY, "--dense_checkpoint", str(folder / "dense"), *FLAGS]


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "ratios.csv", "rollouts.csv", "metrics.csv", "summary.json"]
)
def test_a_finished_run(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    if damage is Path.unlink and name == "summary.json":
        pytest.skip("without a summary the run is one that goes on")
    damage(run / name)
    other = str(tmp_path / "other")
    for command, line in (
        (main, [*words(finished.parent), "--run_dir", str(run)]),
        (main, [*EVAL, "--run_dir", str(run)]),
        (export.main, [str(run), "--to", "safetensors", "--out", str(tmp_path / "o")]),
        (main, [TINY, "--dense_checkpoint", str(run), *FLAGS, "--run_dir", other]),
    ):
        assert command(line) == 2
        said = capsys.readouterr().err
        missing = f"{run}: this folder has no {name}" in said and not (run / name).exists()
        assert missing or f"{run / name}: " in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["state/sparse.pt", "state/search.pt", "state/allocation.json"])
def test_a_run_that_goes_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "summary.json").unlink()
    if name == "state/search.pt":
        (run / "state" / "allocation.json").unlink()
    whole = (run / name).read_bytes()
    flip(run / name)
    again = [*words(finished.parent), "--run_dir", str(run)]
    assert main(again) == 2
    said = capsys.readouterr().err
    assert f"{run / name}: " in said
    assert "delete it" in said or "another folder" in said
    assert not (run / "summary.json").exists()
    (run / name).write_bytes(whole)
    assert main(again) == 0
    for result in ("model.safetensors", "ratios.csv"):
        assert (run / result).read_bytes() == (finished / result).read_bytes()


def test_the_remedy_of_damaged_weights_works(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    flip(run / "model.safetensors")
    (run / "summary.json").unlink()
    assert main([*words(finished.parent), "--run_dir", str(run)]) == 0
    saved = (run / "model.safetensors").read_bytes()
    assert saved == (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"seed": 1}', '{"a": 1, "a": 2}', "\xff"])
def test_a_damaged_identity(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "identity.json").write_bytes(content.encode("latin-1"))
    assert main([*words(finished.parent), "--run_dir", str(run)]) == 2
    said = capsys.readouterr().err
    assert "identity.json: " in said or "made with other settings" in said
    assert "another folder" in said
    assert main([*EVAL, "--run_dir", str(run)]) in (0, 2)


def test_a_layer_database_is_built_again(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    databases = sorted((finished.parent / "cache").rglob("layers-*.safetensors"))
    assert databases
    for database in databases:
        flip(database)
    assert main([*words(finished.parent), "--run_dir", str(tmp_path / "run")]) == 0
    assert "rebuilding it" in capsys.readouterr().err
    saved = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert saved == (finished / "model.safetensors").read_bytes()
