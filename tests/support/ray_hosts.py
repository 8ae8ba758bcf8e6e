"""A Ray head of one's own, started by `ray start` as a user would, and ended by process number."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.processes import descendants, gone

ROOT = Path(__file__).parents[2]
STORE = str(100 * 2**20)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _end_with_parent() -> None:
    """PR_SET_PDEATHSIG: an aborted test run leaves no Ray behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def node(words: Sequence[str], *, prefix: Sequence[str] = (), **environment: str) -> Iterator[None]:
    """`ray start WORDS` for as long as the context lasts."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
    process = subprocess.Popen(
        [*prefix, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    try:
        yield
    finally:
        below = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not gone(below, seconds=10):  # agents outlive a killed raylet
            for pid in below:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        assert gone(below)


@contextmanager
def head(
    *, cpus: int, host: str = "127.0.0.1", prefix: Sequence[str] = (), **environment: str
) -> Iterator[tuple[str, str]]:
    """Yield the addresses of its dashboard and of its control store."""
    port, dashboard, agent, client = free_ports(4)
    folder = Path(tempfile.mkdtemp(prefix="ws-head-", dir="/tmp"))
    words = [
        *("--head", f"--num-cpus={cpus}", f"--object-store-memory={STORE}"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-host={host}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
        *(f"--node-ip-address={host}", f"--temp-dir={folder}", "--disable-usage-stats"),
    ]
    try:
        with node(words, prefix=prefix, **environment):
            wait_for(host, dashboard, prefix=prefix)
            yield f"http://{host}:{dashboard}", f"{host}:{port}"
    finally:
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1)
            if not folder.exists():
                break


def wait_for(host: str, port: int, *, prefix: Sequence[str] = (), seconds: float = 180.0) -> None:
    code = f"import socket; socket.create_connection(('{host}', {port}), timeout=2).close()"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.3)
    raise TimeoutError(f"{host}:{port} does not answer")


def distributed(
    *words: str, prefix: Sequence[str] = (), cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`./run_distributed.sh WORDS`, without the set-up of the script."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "experiments.distributed", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=900,
    )


def new_token() -> str:
    return secrets.token_hex(32)
