"""What every verb of `ws-learner` says of Ctrl-C and of arguments that it cannot read."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from experiments.cli.console import VERBS, main

MODULES = sorted({module for module, _, _ in VERBS.values()})


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
