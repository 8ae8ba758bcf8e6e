"""Help and mistyped flags are answered before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.cli.flags import parse
from experiments.cli.own_options import option_names
from tests.support.ray_hosts import ROOT
from tests.support.small_runs import TINY
from ws_learner.core import UserError

HEAVY = ("torch", "ray", "pandas", "scipy", "transformers", "matplotlib")
ASK = """
import contextlib, importlib, io, sys
answers = []
for module, *words in {asked!r}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = importlib.import_module(module).main(words)
        except SystemExit as end:
            code = end.code
    answers.append((code, said.getvalue()))
    assert not set({heavy!r}) & set(sys.modules), (module, words)
print(answers)
"""
CONSOLE, RUN = "experiments.cli.console", "experiments.run"
VERBS = ("prune", "export", "inspect", "sensitivity", "policy", "new", "demo")


def answers(asked: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Exit code and text of each command line, all in one fresh process."""
    code = ASK.format(asked=asked, heavy=HEAVY)
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    found: list[tuple[int, str]] = eval(shown.stdout)
    return found


@pytest.mark.long
def test_help_loads_no_torch() -> None:
    asked = [(CONSOLE, "-h"), *((CONSOLE, verb, "-h") for verb in VERBS)]
    asked += [(RUN, "-h"), (RUN, "bert_at_trec", "--help_all"), ("experiments.distributed", "-h")]
    for words, (code, said) in zip(asked, answers(asked), strict=True):
        assert code == 0, words
        assert "usage: " in said, words


@pytest.mark.long
def test_a_mistyped_flag_is_answered_without_torch() -> None:
    asked = [
        (RUN, "--prune_rato", "0.5"),
        (RUN, "vit_at_cifar10", "--prune_ratio", "75"),
        (RUN, TINY, "--prune_rato", "0.5"),
        (CONSOLE, "prune", TINY, "--prune_ratio", "0.5", "--widht", "4"),
        (CONSOLE, "export", "runs/one", "--too", "onnx"),
    ]
    hints = ["--prune_ratio?", "0.75?", "--prune_ratio?", "--width?", ""]
    for (code, said), hint in zip(answers(asked), hints, strict=True):
        assert code == 2
        assert hint in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class Options:\n    width: int = 8\n    deep: bool = False\n", {"width", "deep"}),
        ("class Options:\n    pass\n", set()),
        ("class Options(Base):\n    width: int = 8\n", None),
        ("from others import Options\n", None),
        ("from others import *\nclass Options:\n    width: int = 8\n", None),
        ("class Options:\n    width: int = 8\nOptions = change(Options)\n", None),
        ("if True:\n    class Options:\n        width: int = 8\n", None),
        ("class Options(:\n", None),
    ],
)
def test_options_are_read_from_the_text_where_it_says_all(
    text: str, names: set[str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert option_names(path) == names


def test_a_file_with_a_mistyped_flag_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Options:\n    deep: bool = False\nraise RuntimeError('imported')\n")
    with pytest.raises(UserError, match=r"--dep: no such flag; did you mean --deep\?"):
        parse([str(path), "--dep"])
    for words in (["--deep"], ["--no_deep"], ["--no-deep"], ["--prune_ratio=0.5"]):
        with pytest.raises(UserError, match="imported"):
            parse([str(path), *words])
