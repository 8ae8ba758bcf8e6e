"""Every way to start the program: modules, files, the installed command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli.console import DEMO, VERBS, main
from experiments.cli.flags import parse

ROOT = Path(__file__).parents[2]
ENTRIES = ("run", "distributed", "export", "inspect_model", "policy")


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_starts_as_a_module_and_as_a_file(entry: str, tmp_path: Path) -> None:
    as_module = start(tmp_path, "-m", f"experiments.{entry}", "-h")
    as_file = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / f"{entry}.py"), "-h"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},  # the file finds its root by itself
        capture_output=True,
        text=True,
    )
    for done in (as_module, as_file):
        assert done.returncode == 0, done.stderr
        assert "usage:" in done.stdout


def test_the_command_explains_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb}" in shown for verb in VERBS)
    assert main([]) == 2


def test_an_unknown_verb_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prun"]) == 2
    assert "did you mean prune?" in capsys.readouterr().err


def test_verbs_pass_their_arguments_on(capsys: pytest.CaptureFixture[str]) -> None:
    weights = ROOT / "tests" / "support" / "before_the_move" / "dense.safetensors"
    assert main(["inspect", str(weights)]) == 0
    assert "fc.weight" in capsys.readouterr().out
    assert main(["prune", "--prune_ratio", "2"]) == 2
    assert "--prune_ratio 2: must be a share" in capsys.readouterr().err


def test_the_demo_ends_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--protocol", "knapsack", "--nb_epochs", "2", "--run_dir", "demo"]
    assert main(["demo", *small]) == 0
    assert (tmp_path / "demo" / "report.md").exists()
    assert DEMO[0] == "cnn_at_digits"


@pytest.mark.parametrize("flag", ["--num_rollouts", "--ws_nb_rlouts"])
def test_flags_override_the_demo_in_both_spellings(flag: str) -> None:
    assert parse(DEMO).ws.ws_nb_rlouts == 60
    assert parse([*DEMO, flag, "30"]).ws.ws_nb_rlouts == 30


@pytest.mark.parametrize("verb", ["prune", "export", "inspect", "policy"])
def test_the_help_of_a_verb_names_the_installed_command(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "-h"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: ws-learner {verb} ")
    assert "./run_" not in shown


def test_the_demo_has_a_page_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "-h"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ws-learner demo [flags]\n")
    assert "EXPERIMENT" not in shown
    assert "./run_" not in shown
    examples = [line.split("#")[0].split() for line in shown.splitlines() if "  ws-learner" in line]
    for _, verb, *words in [words for words in examples if words[1] == "demo"]:
        assert verb == "demo"
        parse([*DEMO, *words])  # every example can be given
