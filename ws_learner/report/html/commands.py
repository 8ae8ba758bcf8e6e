"""Commands to go on with, ready to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ws_learner.report.html.run_files import RunFiles, text

__all__ = ["Command", "commands_of", "run_path"]

_MOST = 4000


@dataclass(frozen=True)
class Command:
    """A command and what it does."""

    line: str
    about: str


def run_path(path: Path) -> str:
    """The run as commands name it: without the folders of this machine."""
    name = path.resolve().name
    return shlex.quote(text(f"runs/{name}" if path.resolve().parent.name == "runs" else name))


def commands_of(files: RunFiles) -> list[Command]:
    """What can be done next with a run."""
    run, there = run_path(files.run.path), files.run
    found = []
    command = files.summary.get("command")
    if command:
        line = command if isinstance(command, str) else shlex.join(map(str, command))
        about = "made this run; again it shows this report, and resumes a run that was interrupted"
        found.append(Command(text(line, _MOST), about))
    if files.summary.get("learner") == "full-prec":
        return found
    if there.config.exists():
        found += [
            Command(f"ws-learner export {run} --to deploy", "loader and file, with milliseconds"),
            Command(f"ws-learner export {run} --to onnx", "for ONNX Runtime and OpenVINO"),
            Command(
                f"./run_local.sh --exec_mode eval --run_dir {run}", "opens it and measures again"
            ),
        ]
    else:
        name = run.strip("'")
        call = f"load_run({name!r}, model=model)"
        found.append(Command(f"from ws_learner import load_run; run = {call}", "in Python"))
    found.append(Command(f"ws-learner inspect {run}", "counts the zeros of the saved file"))
    if there.policy.exists():
        about = "ratios for another target, without a rollout"
        out = "--prune_ratio 0.9 --out ratios.csv"
        found.append(Command(f"ws-learner policy {run} {out}", about))
    found.append(Command(f"ws-learner report {run} --out report.html", "writes this page again"))
    return found
