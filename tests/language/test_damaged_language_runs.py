"""Finished runs of language models with a damaged file: every command says one line at most."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.cli.console import main
from tests.support.tiny_language import make_folder, make_text

RESULTS = ("model.safetensors", "ratios.csv", "windows.csv", "summary.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("language")
    make_folder(place / "net")
    make_text(place / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{place / 'net'}", "--text", str(place / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "6"]
    assert main(["prune", *words, "--run_dir", str(place / "run")]) == 0
    return place / "run"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes() or b" ")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


def commands(run: Path, other: Path, out: Path) -> list[list[str]]:
    return [
        ["inspect", str(run)],
        ["report", str(run), "--out", str(out / "page.html")],
        ["export", str(run), "--to", "hf", "--out", str(out / "hf")],
        ["prune", "--exec_mode", "eval", "--run_dir", str(run)],
        ["runs", str(run.parent)],
        ["compare", str(run), str(other)],
    ]


def names(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip, marks=pytest.mark.long),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (cut, replaced, Path.unlink)),
    ],
)
def test_no_damage_ends_in_more_than_a_line(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    assert set(RESULTS) < set(names(finished))
    for number, name in enumerate(names(finished)):
        run = tmp_path / str(number) / "run"
        shutil.copytree(finished, run)
        damage(run / name)
        out = tmp_path / f"out{number}"
        out.mkdir()
        codes = {}
        for command in commands(run, finished, out):
            capsys.readouterr()
            codes[command[0]] = main(command)
            said = capsys.readouterr()
            assert "Traceback" not in said.err + said.out, (name, command)
            assert codes[command[0]] in (0, 2), (name, command)
            if codes[command[0]] == 2:
                assert "error: " in said.err, (name, command)
        assert (codes["runs"], codes["compare"]) == (0, 0)  # a list has other rows, too
        if name in RESULTS:
            assert codes["export"] == codes["report"] == 2, name
