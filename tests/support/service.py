"""Run directories without a run, and a client of the service over them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from ws_learner.core import RunDir, write_bytes, write_text
from ws_learner.service import Checked, NewRun, Plan, create_app
from ws_learner.service.guard import App

TOKEN = "a-token-of-the-tests-0123456789"
HOST = "127.0.0.1:8400"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def service_of(folder: Path, *, starter: Any = None) -> App:
    """The service over a folder."""
    return create_app(folder, token=TOKEN, hosts=[HOST], starter=starter)


def client(folder: Path | App, *, starter: Any = None, **headers: str) -> TestClient:
    """A program with the token; `headers` replace its own, with underscores for hyphens."""
    app = service_of(folder, starter=starter) if isinstance(folder, Path) else folder
    given = BEARER | {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(
        app,
        base_url=f"http://{HOST}",
        headers={name: value for name, value in given.items() if value},
        follow_redirects=False,
    )


def made_run(folder: Path, name: str = "run", *, finished: bool = True, **summary: Any) -> Path:
    """The files of a run of three layers, by hand."""
    path = folder / name
    path.mkdir(parents=True)
    identity = {"experiment": "made", "ws_prune_ratio": 0.8, "ws_prune_ratio_prtl": "optimal"}
    write_text(path / "identity.json", json.dumps(identity | {"ws_method": "gradual"}))
    write_text(path / "config.yaml", "experiment: made\nnb_epochs: 2.0\nws_nb_rlouts: 4\n")
    write_text(path / "rollouts.csv", ROLLOUTS)
    write_text(path / "metrics.csv", METRICS)
    if finished:
        write_text(path / "ratios.csv", RATIOS)
        write_bytes(path / "model.safetensors", b"\x00" * 100)
        facts = {"experiment": "made", "method": "gradual", "protocol": "optimal", "rollouts": 4}
        facts |= {"target_prune_ratio": 0.8, "pattern": "unstructured", "metric": "accuracy"}
        facts |= {"metric_unit": "share", "dense_metric": 0.9, "sparse_metric": 0.85}
        facts |= {"search_seconds": 8.0, "train_seconds": 20.0, "measured_on": "test"}
        RunDir(path).finish(facts | summary)
    return path


ROLLOUTS = """\
rollout,kind,reward,accuracy,accuracy_before,divergence,overall_ratio,seconds,failed,zeros/a,zeros/b
0,prior,0.5,0.8,0.8,0.1,0.8,1.0,,10,70
1,model,0.7,0.7,0.7,0.1,0.8,1.0,,20,60
2,model,,,,,0.8,1.0,ValueError: no,30,50
3,agent,0.6,0.9,0.9,0.1,0.8,1.0,,40,40
4,select,0.9,0.9,0.9,0.1,0.8,1.0,,10,70
"""
METRICS = """\
step,epoch,phase,train/loss,select/accuracy,prune/ratio
1,0.5,sparse,1.5,,0.2
2,1.0,sparse,1.0,,0.6
2,1.0,sparse,,0.7,
4,2.0,sparse,0.5,0.85,0.8
"""
RATIOS = """\
layer,kind,role,shape,weights,prune_ratio,achieved,macs,macs_kept
a,linear,linear,4x5,20,0.5,0.5,20,10
b,linear,linear,8x10,80,0.875,0.875,80,10
"""


def progress_line(event: str, *, state: str = "running", **fields: Any) -> str:
    """A line of `progress.jsonl`."""
    line: dict[str, Any] = {"time": time.time(), "event": event, "state": state, "phase": ""}
    line |= {"number": None, "phases": None, "description": "", "done": 0.0, "total": 0.0}
    line |= {"elapsed_s": 0.0, "left_s": None, "command_left_s": None, "note": "", "values": {}}
    return json.dumps(line | fields) + "\n"


def phase_lines(names: Sequence[str], *, advances: int = 3) -> list[str]:
    """Lines of a process that begins, works through phases, and ends as `finished`."""
    lines = [progress_line("state")]
    for number, name in enumerate(names, start=1):
        place = {"phase": name, "number": number, "phases": len(names), "description": name}
        lines.append(progress_line("phase", total=float(advances), **place))
        for done in range(1, advances + 1):
            lines.append(
                progress_line("progress", done=float(done), total=float(advances), **place)
            )
    return [*lines, progress_line("state", state="finished")]


class RecordingStarter:
    """Starts nothing; notes what it was asked for."""

    experiments: tuple[str, ...] = ("one", "two")
    protocols: tuple[str, ...] = ("optimal", "uniform")
    patterns: tuple[str, ...] = ("unstructured", "4x1")

    def __init__(self, *, problems: Sequence[str] = ()) -> None:
        self.started: list[str] = []
        self.resumed: list[str] = []
        self._problems = tuple(problems)

    def plan(self, new: NewRun) -> Plan:
        """A command with its experiment alone."""
        return Plan(id="planned", command=f"prune {new.experiment}", words=(new.experiment,))

    def check(self, plan: Plan) -> Checked:
        """The problems it was made with."""
        return Checked(self._problems, notes=("adjusted: something",))

    def start(self, plan: Plan) -> None:
        """Note it."""
        self.started.append(plan.id)

    def resume(self, run: str) -> None:
        """Note it."""
        self.resumed.append(run)
