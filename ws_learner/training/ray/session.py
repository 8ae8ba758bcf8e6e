"""Ray sessions: a local cluster, shut down afterwards, or a connection to an existing one."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws_learner.config import ClusterConfig
from ws_learner.core import UserError, say, warn
from ws_learner.data import DataSplits
from ws_learner.training.ray.env_vars import (
    one_thread_each,
    patient_start,
    prepare,
    same_imports,
    signals_wait,
)
from ws_learner.training.ray.leftovers import end_leftovers, ray_processes

__all__ = ["MIN_STORE", "ray_session", "store_for"]

MIN_STORE = 100 * 2**20
"""Minimum object store of a local Ray cluster, in bytes; Ray requires at least 75 MiB."""


def store_for(data: DataSplits) -> int:
    """Size of the object store for a search on `data`, in bytes.

    It holds the select split as float32, as much for calibration, and a margin for the network.
    """
    images = 2 * max(len(data.select), len(data.search))
    return MIN_STORE + 4 * images * math.prod(data.input_shape)


@contextmanager
def ray_session(config: ClusterConfig, *, store: int = MIN_STORE) -> Iterator[None]:
    """Connect to Ray inside this context; a nested session uses the outer one.

    Args:
        config: Number of workers and the cluster.
        store: Object store of a local cluster, in bytes; larger data is spilled to disk.

    Raises:
        UserError: The cluster cannot be reached, runs another Ray, or is too small.
    """
    prepare(local=config.address is None, dashboard=config.dashboard)
    import ray

    if ray.is_initialized():
        _check_size(config)
        yield
        return
    folder = None if config.address else _short_folder()
    try:
        if folder is None:
            _join(config)
        else:
            _start(config, folder, store)
        _check_size(config)
        yield
    finally:
        started = [] if folder is None else ray_processes(os.getpid())
        ray.shutdown()
        end_leftovers(started)
        if folder is not None:
            _remove(folder)


def _short_folder() -> Path:
    """A temporary folder with a short name: socket paths are limited to 107 characters.

    It is this user's alone. Ray opens its own folder to everyone, so that one lies within.
    Folders of killed processes are removed.
    """
    place = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    for old in place.glob("ws-ray-*-*"):
        pid = old.name.split("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ws-ray-{os.getpid()}-", dir=place))


def _remove(folder: Path) -> None:
    """Delete a folder to which Ray's last processes may still be writing."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
        if not folder.exists():
            return


def _start(config: ClusterConfig, folder: Path, store: int) -> None:
    """Start a local Ray cluster; never connects to an existing one."""
    import ray

    cores = len(os.sched_getaffinity(0))
    if config.workers > cores:
        warn(
            f"`ClusterConfig.workers`={config.workers}: more workers than this machine "
            f"has cores ({cores}); this works, but is no faster"
        )
    say("starting a local Ray cluster")
    try:
        with same_imports(), one_thread_each(), signals_wait(), patient_start():
            context = ray.init(
                address="local",
                num_cpus=config.workers,
                include_dashboard=config.dashboard,
                object_store_memory=max(store, MIN_STORE),
                logging_level=logging.ERROR,
                logging_config=ray.LoggingConfig(log_level="ERROR"),
                log_to_driver=True,
                _temp_dir=str(folder / "r"),
            )
    except Exception as error:
        if "timed out" not in str(error):
            raise
        raise UserError(
            "Ray did not start in time: this machine is busy; run the same command again when "
            f"it is less busy ({error})"
        ) from error
    if config.dashboard:
        say(f"Ray's dashboard: http://{context.dashboard_url}{_token_text()}")


def _token_text() -> str:
    """What to type into the dashboard; the token of a local Ray is in no file."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return ""
    return f", token {token}" if token else ", with the token that `ray get-auth-token` prints"


def _join(config: ClusterConfig) -> None:
    import ray

    try:
        with signals_wait():
            ray.init(address=config.address, logging_level=logging.ERROR, log_to_driver=True)
    except ConnectionError as error:
        raise UserError(
            f"RAY_ADDRESS {config.address}: no Ray cluster answers there "
            f"({str(error).splitlines()[0]})"
        ) from error
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        lines = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise UserError(
            f"RAY_ADDRESS {config.address}: {lines}; install the same versions on both sides"
        ) from error


def _check_size(config: ClusterConfig) -> None:
    """Check that the cluster has enough resources, instead of waiting forever."""
    import ray

    there: dict[str, Any] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wanted = {"CPU": float(config.workers), "GPU": config.workers * config.gpus_per_worker}
    for kind, amount in wanted.items():
        found = float(there.get(kind, 0.0))
        if amount <= found:
            continue
        each = 1.0 if kind == "CPU" else config.gpus_per_worker
        fits = int(found // each)
        remedy = (
            f"ask for at most `ClusterConfig.workers`={fits}"
            if fits
            else "ask for none with `gpus_per_worker` 0"
        )
        raise UserError(
            f"`ClusterConfig.workers`={config.workers}: needs {amount:g} {kind}s, the Ray "
            f"there has {found:g}; {remedy}, or add machines"
        )
