"""`ws-learner serve`: what it refuses to start with, the commands it makes, and whole runs."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from experiments.cli.console import main
from experiments.cli.flags import parse
from experiments.cli.serve.form_words import named_experiments
from experiments.cli.serve.starter import ProcessStarter
from tests.support.served import Served, served, until
from tests.support.service import client, made_run
from tests.support.small_runs import TINY
from ws_learner.core import UserError
from ws_learner.service import JobFolder, NewRun


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--host", "0.0.0.0"], "--expose"),
        (["--host", "::"], "ssh -L"),
        (["--host", "192.0.2.1"], "unencrypted"),
        (["--port", "99999"], "--port 99999: must be from 0 to 65535"),
        (["--port", "x"], "--port x: must be a whole number"),
        (["--experiment", "resnet_at_cifar11"], "--experiment resnet_at_cifar11: no such"),
        (["--max_runs", "0"], "--max_runs 0"),
        (["--token_file", "missing"], "--token_file missing: no such file"),
        (["--allow_host", "a/b"], "--allow_host a/b"),
        (["file"], "folder file: is no folder"),
        (["--shell"], "--shell: no such flag"),
    ],
)
def test_it_refuses_what_it_cannot_serve(
    words: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["serve", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert line in said


def test_a_token_file_must_be_secret_and_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    for text, mode, line in (
        ("a" * 40, 0o644, "others may read it"),
        ("short", 0o600, "holds no good token"),
        ("a b " * 20, 0o600, "holds no good token"),
        ("", 0o600, "holds no good token"),
    ):
        token.write_text(text)
        token.chmod(mode)
        assert main(["serve", str(tmp_path), "--token_file", str(token)]) == 2
        assert line in capsys.readouterr().err


def starter(tmp_path: Path, *extra: str) -> ProcessStarter:
    return ProcessStarter(tmp_path, [TINY, "resnet_at_cifar10"], extra=extra)


def test_the_command_shown_is_what_the_command_line_reads(tmp_path: Path) -> None:
    new = NewRun(
        experiment="tiny_experiment.py",
        prune_ratio=0.9,
        protocol="optimal",
        pattern="4x1",
        rollouts=40,
        epochs=3,
        workers=1,
        seed=7,
    )
    plan = starter(tmp_path, "--precision", "fp32").plan(new)
    verb, prune, *words = shlex.split(plan.command)
    assert (verb, prune, words[0]) == ("ws-learner", "prune", TINY)
    command = parse(words)
    assert (command.ws.ws_prune_ratio, command.ws.ws_pattern) == (0.9, "4x1")
    assert (command.ws.ws_nb_rlouts, command.run.nb_epochs) == (40, 3.0)
    assert (command.run.workers, command.run.seed, command.run.precision) == (1, 7, "fp32")
    run = parse(plan.words).run
    assert run.run_dir == tmp_path / plan.id
    timed = starter(tmp_path).plan(NewRun(experiment="resnet_at_cifar10", minutes=5))
    assert parse(timed.words).ws.ws_search_time == "5m"


def test_the_same_request_is_the_same_run(tmp_path: Path) -> None:
    one = starter(tmp_path)
    fields: dict[str, Any] = {"experiment": "tiny_experiment.py", "prune_ratio": 0.8}
    base = one.plan(NewRun(**fields)).id
    assert one.plan(NewRun(**fields, workers=3)).id == base  # the result does not depend on it
    others = [NewRun(**fields, seed=1), NewRun(**fields, rollouts=9), NewRun(**fields, name="x")]
    ids = {one.plan(new).id for new in others} | {
        starter(tmp_path, "--width", "4").plan(NewRun(**fields)).id
    }
    assert len(ids | {base}) == 5


def test_only_named_experiments_are_started(tmp_path: Path) -> None:
    one = starter(tmp_path)
    for name in ("bert_at_trec", TINY, "../tiny_experiment.py", "--help", ""):
        with pytest.raises(UserError, match="was not started with it"):
            one.plan(NewRun(experiment=name))
    assert one.experiments == ("tiny_experiment.py", "resnet_at_cifar10")
    (tmp_path / "a").mkdir()
    for folder in (tmp_path, tmp_path / "a"):
        (folder / "mine.py").touch()
    with pytest.raises(UserError, match=r"another file is called mine\.py"):
        named_experiments([str(tmp_path / "mine.py"), str(tmp_path / "a" / "mine.py")])


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("experiment: /tmp/evil.py\n", "of an experiment that this service may not start"),
        ("experiment: bert_at_trec\n", "of an experiment that this service may not start"),
        (f"experiment: {TINY}\nws_save_path: /tmp/x\n", "sets ws_save_path"),
        (f"experiment: {TINY}\ninclude: [/tmp]\n", "sets include"),
        ("[]", "has no config.yaml"),
        (None, "has no config.yaml"),
    ],
)
def test_a_folder_names_no_code_that_a_resume_would_run(
    tmp_path: Path, config: str | None, line: str
) -> None:
    run = made_run(tmp_path, finished=False)
    (run / "config.yaml").unlink() if config is None else (run / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=line):
        starter(tmp_path).resume("run")
    assert JobFolder(tmp_path).all() == []


def test_a_noted_command_is_followed_only_if_the_form_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder `.service`, too, may come from anywhere."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(ProcessStarter, "_start", lambda _, run, words: asked.append(tuple(words)))
    one = starter(tmp_path, "--precision", "fp32")
    plan = one.plan(NewRun(experiment="tiny_experiment.py", prune_ratio=0.8, workers=2))
    run = made_run(tmp_path, plan.id, finished=False)
    (run / "config.yaml").write_text(f"experiment: {TINY}\n")
    JobFolder(tmp_path).create(plan.id, plan.words)
    one.resume(plan.id)
    assert asked.pop() == plan.words
    by_settings = (TINY, f"--config={run / 'config.yaml'}", f"--run_dir={run}")
    forged: list[list[str]] = [
        ["/tmp/evil.py", *plan.words[1:]],
        [TINY, "--include=/tmp", *plan.words[1:]],
        [TINY, "--ws_save_path=/tmp/x", *plan.words[1:]],
        [*plan.words[:-1], "--run_dir=/tmp/elsewhere"],
        [*plan.words, "--include=/tmp"],
        ["--storage=/tmp", "/tmp/evil.py"],
        [],
    ]
    for words in forged:
        JobFolder(tmp_path).create(plan.id, words)
        one.resume(plan.id)
        assert asked.pop() == by_settings, words


def test_a_finished_run_is_neither_started_nor_resumed(tmp_path: Path) -> None:
    one = starter(tmp_path)
    plan = one.plan(NewRun(experiment="tiny_experiment.py"))
    made_run(tmp_path, plan.id)
    for act in (lambda: one.start(plan), lambda: one.resume(plan.id)):
        with pytest.raises(UserError, match="has finished"):
            act()


NEW = {"experiment": "tiny_experiment.py", "prune_ratio": 0.8, "rollouts": 400, "epochs": 2}


@pytest.mark.long
def test_the_checks_say_what_the_command_line_would(tmp_path: Path) -> None:
    one = starter(tmp_path)
    checked = one.check(one.plan(NewRun(experiment="tiny_experiment.py", pattern="4x9z")))
    assert checked.problems[0].startswith("--pattern 4x9z: no such pattern; allowed are")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_that_fails_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    one = starter(tmp_path, "--nonsense")
    plan = one.plan(NewRun(experiment="tiny_experiment.py"))
    one.start(plan)
    until(lambda: not JobFolder(tmp_path).all()[0].running)
    row = client(tmp_path, starter=one).get("/runs").json()[0]
    assert (row["id"], row["state"]) == (plan.id, "failed")
    assert row["reason"].startswith("--nonsense: no such flag")
    page = client(tmp_path, starter=one).get(f"/view/{plan.id}").text
    assert "no such flag" in page
    assert f"/view/{plan.id}/resume" in page


@pytest.mark.slow
def test_a_run_outlives_the_service_stops_and_resumes(tmp_path: Path) -> None:
    """Started over REST, found again by a second service, stopped, resumed, stopped again."""
    runs = tmp_path / "runs"

    def rollouts(service: Served, run: str) -> int:
        best = service.ask("GET", f"/runs/{run}")["best"]
        return best["rollouts"] if best else 0

    with served(runs, "--max_runs", "1") as first:
        assert first.ask("GET", "/runs") == []
        wrong = {"experiment": "tiny_experiment.py", "pattern": "4x9z"}
        refused = httpx.post(
            first.address + "runs",
            json=wrong,
            headers={"authorization": f"Bearer {first.token}"},
            timeout=300,
        )
        assert "--pattern 4x9z: no such pattern" in refused.json()["detail"]["problems"][0]
        started = first.ask("POST", "/runs", json=NEW)
        run = started["id"]
        assert first.ask("GET", "/runs")[0]["state"] == "running"
        until(lambda: rollouts(first, run) > 4)
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(timeout=30) == 0
    with served(runs, "--max_runs", "1") as second:
        found = second.ask("GET", f"/runs/{run}")
        assert found["run"]["state"] == "running"
        assert found["processes"]
        many = rollouts(second, run)
        until(lambda: rollouts(second, run) > many)
        stopped = second.ask("POST", f"/runs/{run}/stop")
        assert stopped["state"] == "stopped"
        before = rollouts(second, run)
        resumed = second.ask("POST", f"/runs/{run}/resume")
        assert resumed["state"] == "running"
        until(lambda: rollouts(second, run) > before)
        assert second.ask("POST", f"/runs/{run}/stop")["state"] == "stopped"
        log = "\n".join(second.ask("GET", f"/runs/{run}")["log"])
        assert "the same command resumes" in log
