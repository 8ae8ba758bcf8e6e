"""`ws-learner new`: the written file runs as it is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.cli.console import main
from experiments.cli.new_file import KINDS, write_experiment
from ws_learner.core import UserError
from ws_learner.report import read_table

SHORT = "--nb_epochs 1 --num_rollouts 4 --ws_nb_rlouts_min 2 --workers 0 --prune_ratio 0.5"
SIZES = {"image": "--images 600 --width 4", "text": "--sentences 600", "table": "--rows 600"}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_runs_as_it_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = f"mine_{kind}.py"
    assert main(["new", file, "--kind", kind]) == 0
    assert f"ws-learner prune {file}" in capsys.readouterr().err
    words = [file, *SHORT.split(), *SIZES[kind].split(), "--run_dir", "one"]
    assert main(["prune", *words]) == 0
    table, state = read_table(Path("one/ratios.csv")), load_file("one/model.safetensors")
    zeros = sum(int((state[name] == 0).sum()) for name in table["layer"])
    assert zeros == round(0.5 * table["weights"].sum())
    summary = json.loads(Path("one/summary.json").read_text())
    dense = summary["dense_metric"]
    # What a guess reaches: the share of one class of 3 and of 2; the variance of the targets,
    # (1 - e^-8) / 2 + 1 / 4 + 0.01 for sin(2a) + bc / 2 and the noise.
    guess = {"image": 1 / 3, "text": 1 / 2, "table": 0.76}[kind]
    assert dense < guess if kind == "table" else dense > guess + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_says_what_to_replace_and_names_itself(kind: str, tmp_path: Path) -> None:
    write_experiment(tmp_path / "mine.py", kind=kind)
    text = (tmp_path / "mine.py").read_text()
    assert all(f"({number})" in text for number in (1, 2, 3, 4))
    assert "ws-learner prune mine.py" in text
    assert "./run_local.sh mine.py" in text
    assert "FILE" not in text
    tree = ast.parse(text)
    assert {"Options", "build"} <= {getattr(node, "name", "") for node in tree.body}


@pytest.mark.parametrize("name", ["torch", "random", "numpy"])
def test_no_file_hides_a_library(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"such as my_{name}.py"):
        write_experiment(tmp_path / f"{name}.py", kind="image")
    assert not list(tmp_path.iterdir())


def test_no_file_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("my_experiment.py")
    mine.write_text("mine = True\n")
    assert main(["new"]) == 2
    assert mine.read_text() == "mine = True\n"
    with pytest.raises(UserError, match="is there already; choose another name"):
        write_experiment(mine, kind="text")
    assert [path.name for path in tmp_path.iterdir()] == ["my_experiment.py"]


@pytest.mark.parametrize("name", ["mine", "mine.txt", "my-net.py", "nowhere/mine.py"])
def test_a_file_that_could_not_be_run_is_not_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert "name of a Python module" in said or "No such file or directory" in said
    assert not any(tmp_path.iterdir())


def test_flags_without_a_default_are_needed_and_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_experiment(tmp_path / "mine.py", kind="table")
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace("width: int = 64", "width: int"))
    assert main(["prune", str(tmp_path / "mine.py")]) == 2
    assert "--width: needed; Neurons of each hidden layer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prune", str(tmp_path / "mine.py"), "-h"])
    shown = capsys.readouterr().out
    assert "Neurons of each hidden layer (needed)" in shown
    assert "MISSING" not in shown
