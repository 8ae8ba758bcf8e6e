"""Environment variables that Ray reads on import or start; does not import ray."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = [
    "one_thread_each",
    "patient_start",
    "prepare",
    "same_imports",
    "signals_wait",
    "token_exists",
]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # keep relative paths valid in workers
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves a process; ranks restart anyway
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every line twice
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command handles Ctrl-C
}
_OWN = {
    "RAY_worker_niceness": "0",  # default 15: other processes would starve the workers
}
_UNSEEN = {
    "RAY_task_events_report_interval_ms": "0",  # 4 KB for each rollout, shown by the dashboard only
}
START_SECONDS = 120.0
"""Time limit for starting a local Ray cluster, in seconds."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def prepare(*, local: bool, dashboard: bool = False) -> None:
    """Set the variables that are not set; call before importing ray, which reads the mode once.

    A local Ray cluster gets a secret token, kept only in this process's environment, so that other
    users of the machine cannot connect and nothing is written to the home folder. Without a
    dashboard it keeps no list of past tasks.
    """
    own = (_OWN if dashboard else _OWN | _UNSEEN) if local else {}
    for name, value in (_QUIET | own).items():
        os.environ.setdefault(name, value)
    if local and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def token_exists() -> bool:
    """Whether Ray finds an authentication token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(named) if named else Path.home() / ".ray" / "auth_token").is_file()


def one_thread_each() -> AbstractContextManager[None]:
    """Make processes started inside use one thread."""
    return _variables(dict.fromkeys(_THREADS, "1"))


def same_imports() -> AbstractContextManager[None]:
    """Make processes started inside find the same modules as this one."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return _variables({"PYTHONPATH": path})


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def patient_start(seconds: float = START_SECONDS) -> Iterator[None]:
    """Extend Ray's 30-second limit for starting inside this context.

    It also slows down Ray's polling for its node, which delays the start on a busy machine.
    """
    from ray._private import services

    theirs: Callable[..., Any] = services.get_node
    end = time.monotonic() + seconds

    def ours(*args: Any) -> Any:
        while True:
            try:
                return theirs(*args)
            except RuntimeError:  # not started yet
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    services.get_node = ours
    try:
        yield
    finally:
        services.get_node = theirs


@contextmanager
def signals_wait() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until Ray has started; a second signal is not deferred.

    Ray replaces the SIGTERM handler, and an exception during its start can get lost. If
    a signal has no handler, and outside the main thread, nothing is changed.
    """
    from ray._private import utils

    both: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    for number in both:
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            before[number](number, frame)

    theirs = utils.set_sigterm_handler
    if signal.SIGTERM in before:
        utils.set_sigterm_handler = lambda handler: None
    for number in before:
        signal.signal(number, wait)
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs
        for number, old in before.items():
            signal.signal(number, old)
    if came:
        signal.raise_signal(came[0])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
