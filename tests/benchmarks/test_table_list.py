"""The list of all tables: its page, its commands, and the runner of small versions."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro

from benchmarks import all as all_tables
from benchmarks.all import main, run_quick
from benchmarks.table_entry import QUICK, Table
from benchmarks.table_list import TABLES, page
from experiments.cli.flags import parse

ROOT = Path(__file__).parents[2]
SMALL = {table.name: table for table in TABLES if table.quick}


class ParsedError(Exception):
    """Raised in place of the work, once the words are understood."""


def test_the_page_is_that_of_the_list() -> None:
    remedy = "python -m benchmarks.all --list > docs/tables.md"
    assert (ROOT / "docs" / "tables.md").read_text() == page(), remedy


def test_names_are_unique_and_pages_and_modules_are_there() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    for table in TABLES:
        assert (ROOT / table.page).is_file(), table.name
        assert bool(table.quick) != bool(table.why), table.name
        for module in re.findall(r"python -m ([\w.]+)", table.command):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), table.name


def test_small_versions_write_nothing_but_their_own_folder() -> None:
    for table in SMALL.values():
        words = shlex.split(table.quick)
        for flag in ("--out", "--work", "--scratch", "--run_dir"):
            if flag in words:
                assert words[words.index(flag) + 1].startswith(f"{QUICK}/"), table.name


def test_every_command_that_a_document_quotes_is_in_the_list() -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    files += [ROOT / "experiments" / "checkpoints" / "README.md"]
    files += (ROOT / "experiments" / "results").glob("*/README.md")
    listed = page()
    missing = {
        (path.name, module)
        for path in files
        for module in re.findall(r"python -m (benchmarks\.\w+)", path.read_text())
        if module not in listed
    }
    assert missing == set()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_small_version_is_understood_by_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_name, *words = shlex.split(SMALL[name].quick)
    module: Any = importlib.import_module(module_name)
    if hasattr(module, "Options") and module_name.startswith("benchmarks."):
        assert isinstance(tyro.cli(module.Options, args=words), module.Options)
        return
    if module_name == "experiments.run":
        assert parse(words, prog="run").run.run_dir == Path(f"{QUICK}/{name}")
        return
    if module_name == "benchmarks.validated_models":  # takes names of files
        assert all((module.CONFIGS / f"{word}.yaml").is_file() for word in words)
        return
    understand = argparse.ArgumentParser.parse_args

    def stop(self: Any, args: Any = None, namespace: Any = None) -> Any:
        understand(self, args, namespace)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr("sys.argv", [module_name, *words])
    with pytest.raises(ParsedError):
        module.main(words) if module.main.__code__.co_argcount else module.main()


@pytest.mark.parametrize(
    ("code", "limit", "state"),
    [
        ("print(1)", False, "passed"),
        ("raise SystemExit(1)", True, "passed, missed its limit"),
        ("raise SystemExit(1)", False, "failed: code 1"),
        ("1 / 0", True, "failed: code 1"),
        ("import time; time.sleep(60)", False, "failed: took too long"),
        ("print('digits erk: failed, KeyError: 1')", False, "failed: code 0"),
    ],
)
def test_the_runner_tells_how_a_small_version_ended(
    code: str, limit: bool, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.py").write_text(code)
    monkeypatch.setattr(all_tables, "_ROOT", tmp_path)
    table = Table(name="small", shows="", command="", quick="small", limit=limit)
    found = run_quick(table, seconds=2)
    assert found.state.startswith(state)
    assert (tmp_path / QUICK / "logs" / "small.txt").exists()


def test_a_failure_is_the_exit_code_and_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, code in {"bad": "1 / 0", "good": "print('here')"}.items():
        (tmp_path / f"{name}.py").write_text(code)
    tables = [Table(name=name, shows="", command="", quick=name) for name in ("bad", "good")]
    tables.append(Table(name="none", shows="", command="", why="it needs a GPU"))
    monkeypatch.setattr(all_tables, "_ROOT", tmp_path)
    monkeypatch.setattr(all_tables, "TABLES", tables)
    assert main(["--quick"]) == 1
    shown = capsys.readouterr().out
    assert "1 of 2 passed" in shown
    assert "1 have no small version" in shown
    assert main(["--quick", "--only", "good"]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [(["--quick", "--only", "acuracy"], "accuracy"), (["--only", "accuracy"], "--quick")],
)
def test_wrong_words_are_answered_with_a_remedy(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert part in capsys.readouterr().err
