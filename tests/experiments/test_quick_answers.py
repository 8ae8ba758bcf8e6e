"""Help and mistyped flags are answered before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.cli.flags import parse
from experiments.cli.own_options import option_names, options_from_text
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
    asked += [(RUN, TINY, "-h"), (CONSOLE, "prune", TINY, "--help_all")]
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


OWN = '''"""My network.

More about it.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Flags."""

    width: int = 8
    """Channels of the first layer."""
    deep: bool = False
    rate: float | None = None
    """A rate. It may be left out."""
    sizes: tuple[int, ...] = (3, 5)
    kind: Literal["a", "b"] = "a"
    folder: Path = Path("data")

    def __post_init__(self):
        raise RuntimeError("not for help")


def build(options, *, seed):
    raise RuntimeError("not for help")
'''


@pytest.mark.parametrize("asked", ["-h", "--help_all"])
def test_help_from_the_text_is_that_of_the_import(
    asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    text = OWN.replace(
        '    def __post_init__(self):\n        raise RuntimeError("not for help")\n', ""
    )
    for name, own in (("mine.py", text), ("other.py", text + "\nOptions = Options\n")):
        (tmp_path / name).write_text(own)  # the second one binds Options twice: imported
        with pytest.raises(SystemExit) as end:
            parse([str(tmp_path / name), asked])
        assert end.value.code == 0
        pages.append(capsys.readouterr().out)
    assert "--width N" in pages[0]
    assert "Channels of the first layer" in pages[0]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 8", "= WIDTH"),
        ("width: int", "width: Width"),
        ("@dataclass(frozen=True)", ""),
        ("class Options:", "class Options(Base):"),
        ("(3, 5)", "[3, 5]"),
        ("= 8", ""),
    ],
)
def test_help_is_imported_where_the_text_does_not_say_all(
    old: str, new: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    with options_from_text(path) as module:
        assert module is not None
        assert module.Options.__dataclass_fields__["sizes"].default == (3, 5)
    other = OWN.replace(old, new, 1)
    if not new and old == "= 8":  # a field without a default after one with
        other = OWN.replace("rate: float | None = None", "rate: float | None", 1)
    path.write_text(other)
    with options_from_text(path) as module:
        assert module is None


def test_a_file_with_a_mistyped_flag_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Options:\n    deep: bool = False\nraise RuntimeError('imported')\n")
    with pytest.raises(UserError, match=r"--dep: no such flag; did you mean --deep\?"):
        parse([str(path), "--dep"])
    for words in (["--deep"], ["--no_deep"], ["--no-deep"], ["--prune_ratio=0.5"]):
        with pytest.raises(UserError, match="imported"):
            parse([str(path), *words])
