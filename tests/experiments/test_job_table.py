"""What `status` says of jobs, from their logs; which job a word means; the deployment files."""

from __future__ import annotations

import re
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from experiments.cli.ray.job_table import job_facts, job_table
from experiments.cli.ray.jobs import Jobs
from experiments.cli.ray.quiet_log import QuietLog
from tests.support.ray_hosts import ROOT
from ws_learner.core import UserError

LOG = """\
run directory: /storage/tiny-gradual-1
search:  25%, about 34 s left best reward 0.9
[5 of 6] sparse training: 120 of 240 (50%), 3 s elapsed, about 3 s left
"""
DONE = """\
tiny: gradual method, uniform ratios

dense accuracy (test)   87.80 %
sparse accuracy (test)  89.10 %
change                 +1.30 points
"""


@pytest.mark.parametrize(
    ("log", "state", "progress", "result"),
    [
        ("", "PENDING", "", ""),
        (LOG, "RUNNING", "[5 of 6] sparse training 50 %", ""),
        (LOG.splitlines()[1], "RUNNING", "search 25 %", ""),
        (LOG + DONE, "SUCCEEDED", "", "89.10 % (+1.30)"),
        (DONE.replace("sparse accuracy", "sparse MSE"), "SUCCEEDED", "", "MSE 89.10 % (+1.30)"),
        (LOG + "error: -n=64: needs 64 CPUs\n", "FAILED", "[5 of 6] sparse training 50 %",
         "-n=64: needs 64 CPUs"),
        ("search:  25%\rsearch:  75%, \x1b[31m", "STOPPED", "search 75 %", ""),
    ],
)  # fmt: skip
def test_progress_and_result_come_from_the_log(
    log: str, state: str, progress: str, result: str
) -> None:
    assert job_facts(log, state=state) == (progress, result)


def job(name: str, *, start: int, state: str = "RUNNING", **about: str) -> Any:
    return SimpleNamespace(
        submission_id=name,
        status=SimpleNamespace(value=state),
        start_time=start * 1000,
        end_time=None,
        metadata={"ws_learner": "tiny -n=2", **about},
    )


def test_the_table_survives_logs_that_are_gone_and_strange() -> None:
    def log(run: str) -> str:
        if run == "gone":
            raise RuntimeError("no such file")
        return "error: \x1b[2J" + "x" * 999

    jobs = [
        job("gone", start=60, ws_name="a\x1b[31m", ws_target="macs=0.3"),
        job("bad", start=30, state="FAILED"),
    ]
    lines = job_table(jobs, log=log, now=120.0).splitlines()
    assert lines[0].split() == ["run", "name", "target", "state", "result", "minutes", "command"]
    assert all(line.isprintable() and len(line) < 400 for line in lines)
    assert lines[1].split()[:4] == ["gone", "a\\x1b[31m", "macs=0.3", "running"]
    assert " 1.0 " in lines[1]
    assert " 1.5 " in lines[2]


def test_a_job_is_found_by_name_and_as_the_last() -> None:
    jobs = Jobs.__new__(Jobs)
    listed = [job("b-2", start=2, ws_name="mine"), job("b-1", start=1), job("a-0", start=0)]
    jobs._client = SimpleNamespace(list_jobs=lambda: listed[::-1])
    for word, wanted in (("last", "b-2"), ("mine", "b-2"), ("a", "a-0"), ("b-1", "b-1")):
        assert jobs.find(word) == wanted
    with pytest.raises(UserError, match="2 runs are called so; there are: b-1, b-2"):
        jobs.find("b")
    listed.append(job("c-3", start=3, ws_name="mine"))  # the same command again
    assert jobs.find("mine") == "c-3"
    listed.append(job("d-4", start=4, ws_name="mine"))
    listed[-1].metadata["ws_learner"] = "another"
    with pytest.raises(UserError, match="3 runs are called so; there are: b-2, c-3, d-4"):
        jobs.find("mine")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_only_rays_notices_are_left_out_of_a_log(size: int) -> None:
    notices = [
        "2026-11-30 22:06:58,689\tINFO job_manager.py:581 -- Runtime env is setting up.\n",
        "Running entrypoint for job x-1: python -m experiments.distributed\n",
        "\x1b[36m(TrainController pid=12)\x1b[0m 2026-11-30 22:06:58,689\tINFO c.py:1 -- x\n",
    ]
    kept = ["run directory: /s/x\n", "2026-11-30 22:06:58,689\tERROR a.py:1 -- lost\n", "\n", "x"]
    text = "".join([notices[0], kept[0], *notices[1:], *kept[1:]])
    log = QuietLog()
    pieces = [log.feed(text[place : place + size]) for place in range(0, len(text), size)]
    assert "".join([*pieces, log.rest()]) == "".join(kept)


def test_deployment_files_fit_the_project() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    (ray,) = re.findall(r"^ray==(\S+)$", pins, re.MULTILINE)
    for name, path in (("rayjob", ("rayClusterSpec",)), ("raycluster", ())):
        text = (ROOT / "docs" / "ray" / f"{name}.yaml").read_text()
        assert "NOT RUN" in text
        spec = yaml.safe_load(text)["spec"]
        for part in path:
            spec = spec[part]
        assert spec["rayVersion"] == ray
        assert spec["authOptions"]["mode"] == "token"
    docker = (ROOT / "docs" / "ray" / "Dockerfile").read_text()
    assert "NOT RUN" in docker
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (named,) = re.findall(r"^ARG EXTRAS=(\S+)$", docker, re.MULTILINE)
    assert set(named.split(",")) | {"dev"} | set(extras) - extras.keys() <= extras.keys()
    copied = re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE)
    assert all((ROOT / part).exists() for line in copied for part in line.split())
