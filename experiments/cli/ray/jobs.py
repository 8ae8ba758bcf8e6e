"""Runs on a cluster, through the Ray Jobs API: submit, status, logs, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from experiments.cli.ray.job_table import job_table
from experiments.cli.ray.quiet_log import QuietLog
from ws_learner.core import UserError, say
from ws_learner.training import prepare, token_exists

__all__ = ["Jobs", "python_there"]

SECONDS_TO_CONNECT = 10.0
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
PASSED_ON = ("WS_DATA_DIR", "WS_CHECKPOINT_SECONDS", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S")


def python_there() -> str:
    """Shell words that start our Python where a cluster has it at the same path, or its own."""
    return f'PY={shlex.quote(sys.executable)}; [ -x "$PY" ] || PY=python; "$PY"'


class Jobs:
    """The runs of one cluster.

    Args:
        address: RAY_ADDRESS: http(s)://host:port of the head's dashboard, or host:port.

    Raises:
        UserError: The cluster cannot be reached, runs another Ray version, or wants a token.
    """

    def __init__(self, address: str) -> None:
        self.address = address if "://" in address else f"http://{address}"
        parts = urlsplit(self.address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UserError(
                f"RAY_ADDRESS {address}: must be the dashboard of the head, "
                "such as http://head:8265"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        _choose_authentication(address, parts.hostname)
        self._knock(parts.hostname, port)
        self._client = self._connect()

    def _knock(self, host: str, port: int) -> None:
        """Ray itself would wait for minutes."""
        try:
            socket.create_connection((host, port), timeout=SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise UserError(
                f"RAY_ADDRESS {self.address}: nothing answers there ({error}); start Ray on that "
                "machine with `ray start --head --dashboard-host=0.0.0.0`, or unset RAY_ADDRESS "
                "to run here"
            ) from error

    def _connect(self) -> Any:
        prepare(local=False)
        import ray
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of packages and sockets
        try:
            client = JobSubmissionClient(self.address)
            there = client._server_ray_version
        except AuthenticationError as error:
            raise UserError(
                f"RAY_ADDRESS {self.address}: the cluster wants another token; copy the head's "
                "~/.ray/auth_token here, or set RAY_AUTH_TOKEN"
            ) from error
        except (RuntimeError, ConnectionError, OSError, ValueError, KeyError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"RAY_ADDRESS {self.address}: no Ray answers there ({text})") from error
        if there != ray.__version__:
            raise UserError(
                f"RAY_ADDRESS {self.address}: the cluster runs Ray {there}, this machine "
                f"{ray.__version__}; install the same version on both"
            )
        return client

    def submit(
        self,
        folder: Path,
        words: Sequence[str],
        *,
        name: str,
        gpus: int,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Send a job; return its name.

        Args:
            folder: Goes along as the job's working directory.
            words: Command line of `experiments.distributed`, with paths as they are there.
            name: Experiment.
            gpus: GPUs of the driver, which judges with the network it shows to the workers.
            about: For the table of `status`: `ws_name` of the run, `ws_target`.
        """
        run = f"{Path(name).stem}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        command = shlex.join(words)
        passed = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        self._client.submit_job(
            entrypoint=f"{python_there()} -m experiments.distributed --in_job {command}",
            submission_id=run,
            runtime_env={
                "working_dir": str(folder),
                "env_vars": {"PYTHONUNBUFFERED": "1", **passed},
            },
            metadata={"ws_learner": command, **about},
            entrypoint_num_gpus=gpus or None,
        )
        return run

    def run_small(self, entrypoint: str, *, name: str) -> str:
        """Run a shell command on the head node; return its output and delete the job.

        Raises:
            UserError: It failed.
        """
        run = self._client.submit_job(
            entrypoint=entrypoint, submission_id=f"{name}-{secrets.token_hex(4)}"
        )
        while not self._state(run).is_terminal():
            time.sleep(0.5)
        output: str = self._client.get_job_logs(run)
        state = self._state(run).value
        self._client.delete_job(run)
        if state != "SUCCEEDED":
            raise UserError(f"{name}: {output.strip().splitlines()[-1] if output else state}")
        return output

    def find(self, name: str) -> str:
        """Full name of the run that is meant.

        Args:
            name: `last`, the job sent last; the run's `--name`; or the job's name or its beginning.

        Raises:
            UserError: None is, or more than one.
        """
        jobs = self._ours()
        if name == "last" and jobs:
            return str(jobs[0].submission_id)
        names = [str(job.submission_id) for job in jobs]
        called = [job for job in jobs if job.metadata.get("ws_name") == name]
        if len({job.metadata["ws_learner"] for job in called}) == 1:
            called = called[:1]  # one run, sent again to go on
        found = [n for n in names if n == name] or [str(job.submission_id) for job in called]
        found = found or [n for n in names if n.startswith(name)]
        if len(found) != 1:
            known = ", ".join(sorted(found or names)) or "none"
            raise UserError(f"run {name}: {len(found)} runs are called so; there are: {known}")
        return found[0]

    def log(self, run: str) -> str:
        """Log of the run so far."""
        text: str = self._client.get_job_logs(run)
        return text

    def all(self) -> list[tuple[str, str, str, float]]:
        """Name, status, command and start (seconds since 1970) of every run, newest first."""
        return [
            (
                str(job.submission_id),
                str(job.status.value),
                str(job.metadata["ws_learner"]),
                (job.start_time or 0) / 1000,
            )
            for job in self._ours()
        ]

    def status(self) -> str:
        """A table of the cluster's runs, newest first: target, progress, result."""
        return job_table(self._ours(), log=self.log)

    def follow(self, run: str) -> int:
        """Print the run's log until it ends; return 0 if it succeeded, else 1."""
        try:
            asyncio.run(self._print(run))
        except KeyboardInterrupt:
            say(f"the run continues on the cluster; ./run_distributed.sh logs {run} shows its log")
            return 130
        state = self._state(run).value
        say(f"{run}: {state.lower()}")
        return 0 if state == "SUCCEEDED" else 1

    async def _print(self, run: str) -> None:
        printed, quiet = 0, QuietLog()
        while True:
            seen = 0
            async for piece in self._client.tail_job_logs(run):
                sys.stdout.write(quiet.feed(piece[max(0, printed - seen) :]))
                sys.stdout.flush()
                seen += len(piece)
            printed = max(printed, seen)
            if self._state(run).is_terminal():
                sys.stdout.write(quiet.rest())
                sys.stdout.flush()
                return
            await asyncio.sleep(1.0)  # the connection was lost

    def stop(self, run: str) -> None:
        """Stop a run; the same command resumes it."""
        if self._state(run).is_terminal():
            say(f"{run}: {self._state(run).value.lower()} already")
            return
        self._client.stop_job(run)
        while not self._state(run).is_terminal():
            time.sleep(0.5)
        say(f"{run}: stopped; give the same command again to resume it")

    def _state(self, run: str) -> Any:
        return self._client.get_job_status(run)

    def _ours(self) -> list[Any]:
        jobs = [j for j in self._client.list_jobs() if "ws_learner" in (j.metadata or {})]
        return sorted(jobs, key=lambda job: -(job.start_time or 0))


def _choose_authentication(address: str, host: str) -> None:
    """A token for every cluster beyond this machine; on it, one if there is one."""
    if host in LOOPBACK:
        os.environ.setdefault("RAY_AUTH_MODE", "token" if token_exists() else "disabled")
        return
    if os.environ.setdefault("RAY_AUTH_MODE", "token").lower() != "token":
        raise UserError(
            f"RAY_ADDRESS {address}: beyond this machine only with RAY_AUTH_MODE=token, for who "
            "reaches an open cluster can run anything on it"
        )
    if not token_exists():
        raise UserError(
            f"RAY_ADDRESS {address}: needs the cluster's token; make one on the head with "
            "`ray get-auth-token --generate` and copy its ~/.ray/auth_token here, "
            "or set RAY_AUTH_TOKEN"
        )
