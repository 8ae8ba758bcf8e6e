"""`ws-learner runs`, `compare`, `label`, and names in place of folders."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest

from experiments.cli.console import main
from experiments.cli.flags import parse
from experiments.cli.runs import compare_command, list_command
from tests.support.ray_hosts import ROOT
from tests.support.run_folders import copied, said
from ws_learner import UserError
from ws_learner.core import RunDir
from ws_learner.report import find_run, read_label, write_label

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
QUICK = ["--ws_prune_ratio", "0.8", "--ws_prune_ratio_prtl", "uniform", "--ws_init", "scratch"]
QUICK += ["--nb_epochs", "1", "--ws_mask_update_step", "1", "--precision", "fp32"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs, the first of them the newest; the current folder is above them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    best = copied(folder, "tiny-gradual-aaaa1111", sparse_accuracy=0.8)
    worse = copied(folder, "tiny-gradual-bbbb2222", sparse_accuracy=0.7, pattern="4x1")
    going = copied(folder, "tiny-gradual-cccc3333", of="searching")
    damaged = copied(folder, "other-gradual-dddd4444")
    (damaged / "summary.json").write_text("{")
    for age, run in enumerate((best, worse, going, damaged)):
        os.utime(run / "identity.json", (1.7e9 - age, 1.7e9 - age))
    write_label(best, name="the best", tags=["paper", "v2"])
    write_label(worse, tags=["paper"])
    said(going, done=16.0)
    return folder


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Ids of the rows that a command lists."""
    assert main(["runs", *words, "--json"]) == 0
    return [row["id"][-8:] for row in json.loads(capsys.readouterr().out)]


def test_filters_and_orders(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c, d = "aaaa1111", "bbbb2222", "cccc3333", "dddd4444"
    assert listed(capsys) == [a, b, c, d]
    assert listed(capsys, "--tag", "paper") == [a, b]
    assert listed(capsys, "--tag", "paper", "--tag", "v2") == [a]
    assert listed(capsys, "--state", "stopped", "--state", "unknown") == [c, d]
    assert listed(capsys, "--name", "the*") == [a]
    assert listed(capsys, "--experiment", "tin*") == [a, b, c]
    assert listed(capsys, "--sort", "metric")[:2] == [a, b]
    assert listed(capsys, "--sort", "metric", "--reverse")[-2:] == [b, a]
    assert listed(capsys, "--limit", "2") == [a, b]


@pytest.mark.parametrize("width", [80, 120, None])
def test_the_table_fits(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int | None,
) -> None:
    monkeypatch.setattr(list_command, "terminal_width", lambda: width)
    with RunDir(runs / "tiny-gradual-cccc3333").locked():
        assert main(["runs"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 5
    assert all(len(line) <= (width or 1000) for line in lines)
    assert re.search(r"the best .* 80\.00 % +\+5\.00 .*finished", lines[1])
    assert "running, search 38 %" in lines[3]  # (2 + 16/64) of 6 phases
    assert "other-gradual-dddd4444: unknown: summary.json" in shown.err
    assert ("not shown" in shown.err) == (width is not None)


def test_pages_hold_names_as_text(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "<script>alert(1)<\\script>"
    write_label(runs / "tiny-gradual-aaaa1111", name=nasty, tags=["<b>&"])
    (runs / "tiny-gradual-bbbb2222" / "report.html").write_text("x")
    assert main(["runs", "--html", "list.html"]) == 0
    assert main(["compare", nasty, "tiny-gradual-b", "--html", "both.html"]) == 0
    for name in ("list.html", "both.html"):
        page = Path(name).read_text()
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        assert "&lt;b&gt;&amp;" in page
        assert not re.findall(r"(?:src|href)=\"(?:https?:|//)", page)
    assert 'href="runs/tiny-gradual-bbbb2222/report.html"' in Path("list.html").read_text()


def test_compare_in_text_and_in_full(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "last", "tiny-gradual-b", "--csv"]) == 0
    rows = {(kind, name): cells for kind, name, *cells in csv.reader(
        io.StringIO(capsys.readouterr().out)
    )}  # fmt: skip
    assert rows["kind", "name"] == ["the best", "tiny-gradual-bbbb2222"]
    assert rows["metric", "sparse accuracy (test)"] == ["0.8", "0.7"]
    value, low, high = (
        float(rows[f"difference {end}", "sparse accuracy (test)"][1])
        for end in ("value", "low", "high")
    )
    assert (value, low < value < high) == (pytest.approx(-0.1), True)
    with (runs / "tiny-gradual-aaaa1111" / "ratios.csv").open() as file:
        for row in csv.DictReader(file):
            assert [float(cell) for cell in rows["ratio", row["layer"]]] == [
                float(row["achieved"])
            ] * 2
    assert main(["compare", "last", "tiny-gradual-b"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"against A +-10\.00", text)
    assert "no setting differs" in text


def test_many_runs_are_compared_in_blocks(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_command, "terminal_width", lambda: 80)
    given = [str(copied(runs, f"copy{place}", seed=place)) for place in range(7)]
    assert main(["compare", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    heads = [line.split()[1:] for line in lines if line.startswith("metric")]
    assert [letter for head in heads for letter in head[1:]] == list("BCDEFG")
    assert all(head[0] == "A" for head in heads)


def test_runs_are_found_by_name(runs: Path) -> None:
    first = runs / "tiny-gradual-aaaa1111"
    for word in ("last", "the best", first.name, "tiny-gradual-a", str(first)):
        assert find_run(word).resolve() == first
    write_label(runs / "tiny-gradual-bbbb2222", name="the best")
    for word, reason in (
        ("the best", "2 runs are called so"),
        ("tiny", "3 runs are called so"),
        ("the bset", "did you mean the best"),
    ):
        with pytest.raises(UserError, match=reason):
            find_run(word)
    with pytest.raises(UserError, match="`run` some/where: no such folder or name of a run"):
        find_run("some/where")
    with pytest.raises(UserError, match=f"did you mean runs/{first.name}"):
        find_run(f"runs/{first.name[:-1]}")
    assert main(["compare", "last", "some/where"]) == 2
    with pytest.raises(UserError, match="no finished run or other"):
        find_run("last", folder="nowhere")


def test_other_verbs_take_a_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "the best"]) == 0
    assert "conv1.weight" in capsys.readouterr().out
    assert main(["export", "the best", "--to", "wsr"]) == 0
    assert (runs / "tiny-gradual-aaaa1111" / "model.wsr").is_file()
    assert main(["export", "nothing", "--to", "wsr"]) == 2
    assert "no run in runs is called so" in capsys.readouterr().err


def test_labels_afterwards(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--name", "new", "--tag", "x", "--tag", "y", "--untag", "v2"]
    assert main(["label", "the best", *words]) == 0
    label = read_label(runs / "tiny-gradual-aaaa1111")
    assert (label.name, label.tags) == ("new", ("paper", "x", "y"))
    assert main(["label", "new", "--name", "a/b"]) == 2
    assert "--name 'a/b'" in capsys.readouterr().err
    assert main(["label", str(runs), "--name", "x"]) == 2


def test_name_tags_and_trackers_are_no_settings() -> None:
    plain = parse([TINY, *QUICK])
    named = parse([TINY, *QUICK, "--name", "a", "--tag", "x", "--tag", "y", "--track", "mlflow"])
    assert named.settings() == plain.settings()
    assert named.run.tag == ("x", "y")
    for words, part in (
        (["--name", "last"], "--name last"),
        (["--tag", "a,b"], "--tag 'a,b'"),
        (["--track", "mlfow"], "--track"),
    ):
        with pytest.raises(UserError, match=part):
            parse([TINY, *QUICK, *words])


def test_an_experiment_may_have_an_option_called_name(tmp_path: Path) -> None:
    text = Path(TINY).read_text()
    assert "class Options:\n" in text
    own = tmp_path / "own_tiny.py"
    own.write_text(text.replace("class Options:\n", 'class Options:\n    name: str = "resnet"\n'))
    command = parse([str(own), *QUICK, "--name", "vgg/16"])
    assert (command.options.name, command.run.name) == ("vgg/16", None)
    assert command.settings()["name"] == "vgg/16"


@pytest.mark.long
def test_a_named_run_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prune", TINY, *QUICK]) == 0
    (run,) = Path("runs").glob("*gradual*")
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert main(["prune", TINY, *QUICK, "--name", "mine", "--track", "tensorboard"]) == 0
    assert [path.name for path in Path("runs").glob("*gradual*")] == [run.name]
    after = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"label.json", "tracking.json"}
    assert any((run / "tensorboard").iterdir())
    assert read_label(run).name == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tag nope", "none of the 4 runs in runs/ has the tag nope; tags in use: paper, v2"),
        ("--state running", "is running; states in use: finished, stopped, unknown"),
        ("--name nobody", "is called nobody; names in use: the best"),
        ("--experiment x*", "is of the experiment x*; experiments in use: "),
        ("--tag v2 --state stopped", "has the tag v2 and is stopped at once"),
    ],
)
def test_an_empty_list_says_which_filter_leaves_none(
    runs: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert main(["runs", *words.split()]) == 0
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_messages_name_no_flags_that_a_verb_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "error: no runs/ here yet; `ws-learner demo` makes one\n"
    for verb in ("report", "inspect", "policy", "export --to deploy", "generate --prompt a"):
        first, *more = verb.split()
        assert main([first, "runs/nope", *more]) == 2
        error = capsys.readouterr().err
        assert error == (
            "error: runs/nope: no such folder or name of a run; `ws-learner runs` lists them\n"
        )
    (tmp_path / "empty").mkdir()
    assert main(["report", "empty"]) == 2
    assert capsys.readouterr().err.startswith("error: empty: holds no finished run")
