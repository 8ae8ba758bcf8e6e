"""A service in a process of its own, as a user starts it, and a program that asks it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.ray_hosts import ROOT
from tests.support.small_runs import TINY
from ws_learner.service import JobFolder
from ws_learner.service.locks import signal_holder

__all__ = ["Served", "served", "until"]

SHORT = [
    *("--ws_nb_smpls_rg", "100", "--ws_nb_smpls_bn", "50", "--ws_nb_iters_feval", "1"),
    *("--ddpg_nb_updates", "2", "--ws_mask_update_step", "1", "--precision", "fp32"),
    *("--batch_size", "64", "--ws_patience", "0", "--ws_nb_rescore", "2"),
]
"""Flags of every run here: a rollout takes a fraction of a second."""


@dataclass
class Served:
    """A running service.

    Attributes:
        address: Such as `http://127.0.0.1:43211/`.
        token: Its token.
        process: It.
    """

    address: str
    token: str
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The JSON of an answer, which must be a good one."""
        headers = {"authorization": f"Bearer {self.token}"}
        url = self.address.rstrip("/") + path
        answer = httpx.request(method, url, headers=headers, timeout=300, **more)
        assert answer.is_success, answer.text
        return answer.json()


@contextmanager
def served(
    folder: Path, *words: str, extra: Sequence[str] = SHORT, cluster: str = ""
) -> Iterator[Served]:
    """Serve a folder on a free port, or a cluster; the tiny experiment may be started."""
    module = "experiments.distributed" if cluster else "experiments.cli.console"
    command = [sys.executable, "-m", module, "serve", str(folder), "--port", "0"]
    own = {"RAY_ADDRESS": cluster} if cluster else {}
    own |= {"PYTHONPATH": str(ROOT), "WS_DATA_DIR": str(folder.parent / "cache")}
    own |= {"WS_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--experiment", TINY, *words, "--", *extra],
        cwd=folder.parent,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[-1]
        token = process.stdout.readline().strip().partition("token=")[2]
        port = int(address.rstrip("/").rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=10).close()  # as soon as it is said
        yield Served(address, token, process)
    except BaseException:  # no run stays of a test that failed
        for job in JobFolder(folder).all():
            signal_holder(job.lock, signal.SIGKILL)
        raise
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def until(condition: Callable[[], object], *, seconds: float = 240.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
