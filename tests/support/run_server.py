"""Runs of the command line that are forked from one process, so that none imports torch anew.

`python -m tests.support.run_server` reads one JSON object per line and answers with one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.failing_writes import Fault
from tests.support.processes import alive, descendants, gone, processor_seconds
from tests.support.ray_hosts import ROOT


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: signal), what it said, its processor seconds."""

    code: int
    said: str
    seconds: float


class RunServer(AbstractContextManager["RunServer"]):
    """Starts runs, each a process that can be killed; its cache is `cache` in the run's folder."""

    def __init__(self) -> None:
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WS_CHECKPOINT_SECONDS": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.run_server"],
            env=os.environ | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        words: list[str],
        cwd: Path,
        *,
        kill: tuple[int, float] | None = None,
        fault: Mapping[str, Any] | None = None,
        prepare: str = "",
    ) -> Ended:
        """Run to the end, or to a signal.

        Args:
            words: The command line.
            cwd: Folder of the run.
            kill: Signal, and the processor seconds of the run after which it is sent.
            fault: Number, list and kinds of a `Fault` below the folder.
            prepare: A function `module:name` that is called in the run's process before it starts.
        """
        job = {"words": words, "kill": kill, "fault": fault, "cwd": str(cwd), "prepare": prepare}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self


def _main() -> None:
    import matplotlib.backends.backend_svg  # noqa: F401
    import stable_baselines3  # noqa: F401
    import torch
    import torch._dynamo
    import torch.distributed.fsdp

    import experiments.run  # noqa: F401
    import ws_learner.learner  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    said = Path(job["cwd"]).with_suffix(".said")
    pid = os.fork()
    if pid == 0:
        os._exit(_child(job, said))
    used_by: dict[int, float] = {}  # also by processes that have ended
    spent = 0.0
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        for process in (pid, *descendants(pid)):
            used_by[process] = max(used_by.get(process, 0.0), processor_seconds(process))
        spent = sum(used_by.values())
        if job["kill"] and spent >= job["kill"][1]:
            if alive(pid):
                os.kill(pid, job["kill"][0])
            break
        time.sleep(0.005)
    _, status, used = os.wait4(pid, 0)
    if not gone(list(used_by.keys() - {pid}), seconds=60):
        raise RuntimeError("a run that has ended left processes")
    seconds = max(used.ru_utime + used.ru_stime, spent)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "said": said.read_text(),
        "seconds": seconds,
    }


def _child(job: Mapping[str, Any], said: Path) -> int:
    from experiments.run import main

    os.chdir(job["cwd"])
    os.environ["WS_DATA_DIR"] = str(Path(job["cwd"]) / "cache")
    with said.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    if job["prepare"]:
        module, _, name = job["prepare"].partition(":")
        getattr(__import__(module, fromlist=[name]), name)()
    if job["fault"]:
        given = job["fault"]
        Fault(
            number=given["number"],
            below=Path(job["cwd"]),
            listed=Path(given["listed"]),
            kinds=frozenset(given["kinds"]),
        ).install()
    try:
        code = main(job["words"])
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _main()
