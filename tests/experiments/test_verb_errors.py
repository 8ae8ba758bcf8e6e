"""What every verb of `ws-learner` says of Ctrl-C and of arguments that it cannot read."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from experiments.cli.console import VERBS, main
from tests.support.run_folders import copied


@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_is_one_line_in_every_verb(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    module = ModuleType("stands in")
    module.main = interrupted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, VERBS[verb][0], module)
    assert main([verb, "anything"]) == 130
    assert capsys.readouterr().err == f"ws-learner {verb}: stopped\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("export last --to onxx", "--to onxx: no such choice; did you mean onnx? Allowed: deploy,"),
        ("export", "ws-learner export: needs RUN and --to, as in `ws-learner export last --to"),
        ("runs --sort metrik", "--sort metrik: no such choice; did you mean metric? Allowed:"),
        ("runs --state done", "--state done: no such choice; did you mean finished?"),
        ("runs --state finish", "--state finish: no such choice; did you mean finished?"),
        ("runs --limit many", "--limit many: must be a whole number"),
        ("runs --htlm x", "--htlm: no such flag; did you mean --html?"),
        ("runs --tag", "--tag: needs a value"),
        ("runs --wide=yes", "--wide=yes: takes no value"),
        ("report", "ws-learner report: needs RUN, as in `ws-learner report last`"),
        ("report a b", "b: is one argument too many"),
        ("compare", "ws-learner compare: needs RUN, as in `ws-learner compare last runs/<one>`"),
        ("inspect", "ws-learner inspect: needs FILE"),
        ("policy", "ws-learner policy: needs RUN"),
        ("label", "ws-learner label: needs RUN"),
        ("generate last", "ws-learner generate: needs --prompt"),
        ("new --kind txt", "--kind txt: no such choice; did you mean text?"),
        ("serve --prot 1", "--prot: no such flag; did you mean --port?"),
        ("serve --port x", "--port x: must be a whole number"),
        ("sensitivity --patterns", "--patterns: needs a value"),
    ],
)
def test_arguments_are_refused_on_one_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words.split())
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1
    assert "usage:" not in error


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that is refused prints."""
    assert main(words) == 2
    return capsys.readouterr().err


def test_compare_needs_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "compare", "x")
    assert said.startswith("error: compare x: needs two runs, as in `ws-learner compare last x`")


def test_files_are_not_written_below_folders_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path, "run")
    place = tmp_path / "nope" / "x.html"
    for words in (
        ("report", str(run), "--out", str(place)),
        ("report", str(run), "--picture", str(place.with_suffix(".svg"))),
        ("compare", str(run), str(run), "--html", str(place)),
        ("runs", str(tmp_path), "--html", str(place)),
        ("export", str(run), "--to", "wsr", "--out", str(place)),
    ):
        said = refused(capsys, *words)
        assert f"{words[-2]} {words[-1]}: no folder {place.parent}; make it, or" in said
    assert not place.parent.exists()


def test_a_run_without_weights_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path, "run")
    (run / "model.safetensors").unlink()
    for kind in ("wsr", "onnx", "deploy", "hf"):
        said = refused(capsys, "export", str(run), "--to", kind)
        assert said.startswith(f"error: {run}: this folder has no model.safetensors; ")
        assert "run its command again" in said


def test_what_the_service_cannot_start_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "serve", "--experiment", "mine2.py")
    assert f"--experiment mine2.py: no such file (it would be {tmp_path / 'mine2.py'})" in said
    said = refused(capsys, "serve", "--experiment", "cnn_at_digit")
    assert "--experiment cnn_at_digit: no such experiment; did you mean cnn_at_digits?" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(capsys, "serve", "--port", str(port)).strip()
    assert error.startswith(f"error: --port {port}: cannot listen on 127.0.0.1 (")
    assert error.endswith("; --port 0 takes a free one")


def test_a_folder_that_is_not_there_yet_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uvicorn = pytest.importorskip("uvicorn")

    def ends(_: object, sockets: list[socket.socket]) -> None:
        for one in sockets:
            one.close()

    monkeypatch.setattr(uvicorn.Server, "run", ends)
    assert main(["serve", str(tmp_path / "nofolder"), "--port", "0"]) == 0
    assert f"{tmp_path / 'nofolder'}: no such folder yet" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--port", "0"]) == 0
    assert "no such folder" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("image_classifier", "--model", "hf:/nope", "--data_dir", "/none"),
        ("lm_at_text", "--model", "hf:/nope", "--text", "/none/*.txt"),
    ],
)
def test_all_that_is_missing_is_named_at_once(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "prune", *words)
    assert "--model hf:/nope: no such folder; nothing is downloaded" in said
    assert f"{words[-2]} {words[-1]}: no such " in said
    assert "2 settings need a change:" in said
