"""`./run_distributed.sh serve`: jobs as runs are sent, stopped, resumed; a cluster that fails."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.cli.serve.cluster import ClusterJobs, ClusterStarter
from experiments.distributed import main
from tests.support.ray_hosts import head
from tests.support.served import served, until
from tests.support.service import BEARER, HOST, TOKEN, made_run
from tests.support.small_runs import TINY
from ws_learner.core import UserError
from ws_learner.service import JobFolder, NewRun, create_app


class Cluster:
    """Jobs in memory."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, str, float]] = []
        self.answers = True

    def all(self) -> list[tuple[str, str, str, float]]:
        if not self.answers:
            raise ConnectionError("gone")
        return self.jobs

    def log(self, run: str) -> str:
        if not self.answers:
            raise ConnectionError("gone")
        return f"first line\nlast line of {run}\n"

    def stop(self, run: str) -> None:
        self.jobs = [(n, "STOPPED" if n == run else s, c, t) for n, s, c, t in self.jobs]

    def submit(self, folder: Path, words: Sequence[str], *, name: str, gpus: int) -> str:
        assert (folder / "ws_learner").is_dir()
        assert (folder / "tiny_experiment.py").is_file()
        job = f"{Path(name).stem}-{len(self.jobs)}"
        self.jobs.append((job, "RUNNING", shlex.join(words), 1.0 + len(self.jobs)))
        return job


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("experiments.cli.serve.cluster._SECONDS_OF_A_LIST", 0.0)
    monkeypatch.setattr("ws_learner.service.state._SECONDS_OF_A_LIST", 0.0)
    return Cluster()


def parts(cluster: Cluster, folder: Path) -> tuple[ClusterJobs, ClusterStarter]:
    known = ClusterJobs(cluster)
    return known, ClusterStarter(folder, [TINY], jobs=cluster, known=known, workers=3, most=2)


def test_a_run_is_sent_with_its_directory_and_listed(cluster: Cluster, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    known, starter = parts(cluster, tmp_path)
    app = create_app(tmp_path, token=TOKEN, hosts=[HOST], starter=starter, elsewhere=known)
    asked = TestClient(app, base_url=f"http://{HOST}", headers=BEARER)
    plan = starter.plan(NewRun(experiment="tiny_experiment.py", prune_ratio=0.7, workers=4))
    shown = shlex.split(plan.command)
    assert shown[:4] == ["./run_distributed.sh", "-n=4", f"--storage={tmp_path}", TINY]
    assert "--workers" not in plan.command
    starter.start(plan)
    (sent,) = cluster.jobs
    assert shlex.split(sent[2]) == [
        *("-n=4", f"--storage={tmp_path}", "tiny_experiment.py", "--prune_ratio=0.7"),
        f"--run_dir={tmp_path / plan.id}",
    ]
    (row,) = asked.get("/runs").json()
    assert (row["id"], row["state"]) == (plan.id, "running")
    assert asked.get(f"/runs/{plan.id}").json()["log"][-1] == "last line of tiny_experiment-0"
    with pytest.raises(UserError, match="runs already"):
        starter.start(plan)

    made_run(tmp_path, plan.id, finished=False)  # the job has begun
    end = time.monotonic() + 10  # what was read before is kept for an instant
    while asked.get("/runs").json()[0]["experiment"] != "made":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert asked.post(f"/runs/{plan.id}/stop").json()["state"] == "stopped"
    assert asked.post(f"/runs/{plan.id}/resume").json()["state"] == "running"
    assert cluster.jobs[1][2] == cluster.jobs[0][2]


def test_jobs_of_others_and_a_silent_cluster(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.jobs = [
        ("mine-1", "FAILED", "-n=2 mine.py --prune_ratio 0.9", 5.0),
        ("mine-2", "SUCCEEDED", "-n=2 mine.py --run_dir ../../etc", 6.0),
        ("mine-3", "STRANGE", "-n=2 mine.py --run_dir=/shared/..", 7.0),
    ]
    known, starter = parts(cluster, tmp_path)
    found = {one.job: (one.id, one.state) for one in known.all()}
    assert found == {
        "mine-1": ("mine-1", "failed"),
        "mine-2": ("etc", "finished"),  # a name, which is looked for in the served folder alone
        "mine-3": ("mine-3", "unknown"),
    }
    cluster.answers = False
    assert {one.job for one in known.all()} == set(found)
    assert known.log("mine-1", 5) == []
    known.all()
    assert capsys.readouterr().err.count("does not answer") == 1
    assert starter.experiments == ("tiny_experiment.py",)
    assert JobFolder(tmp_path).all() == []


def test_too_many_runs_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    _, starter = parts(cluster, tmp_path)
    for seed in range(2):
        starter.start(starter.plan(NewRun(experiment="tiny_experiment.py", seed=seed)))
    with pytest.raises(UserError, match="--max_runs is 2"):
        starter.start(starter.plan(NewRun(experiment="tiny_experiment.py", seed=9)))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-n", "0"], "-n=0: must be"),
        ([], "set RAY_ADDRESS"),
        (["--port"], "--port: needs a value"),
    ],
)
def test_it_says_what_is_missing(
    words: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["serve", *words]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_a_real_cluster(tmp_path: Path) -> None:
    storage = tmp_path / "shared"
    new = {"experiment": "tiny_experiment.py", "prune_ratio": 0.8, "rollouts": 400, "workers": 1}
    with (
        head(cpus=2, RAY_AUTH_MODE="disabled") as (dashboard, _),
        served(storage, cluster=dashboard) as service,
    ):
        assert service.ask("GET", "/runs") == []
        started = service.ask("POST", "/runs", json=new)
        run = started["id"]
        assert started["command"].startswith("./run_distributed.sh -n=1 --storage=")

        def state() -> str:
            return str(service.ask("GET", f"/runs/{run}")["run"]["state"])

        def log() -> str:
            return "\n".join(service.ask("GET", f"/runs/{run}")["log"])

        assert state() == "running"
        until(lambda: "run directory: " in log(), seconds=600)
        assert service.ask("POST", f"/runs/{run}/stop")["state"] == "stopped"
        assert service.ask("POST", f"/runs/{run}/resume")["state"] == "running"
        assert service.ask("POST", f"/runs/{run}/stop")["state"] == "stopped"
