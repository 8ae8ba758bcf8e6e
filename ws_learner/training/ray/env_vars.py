"""Environment variables that Ray reads when it is imported or started. Free of ray."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["one_thread_each", "patient_start", "prepare", "signals_wait", "token_exists"]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths a user gave stay valid in workers
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more; a lost machine is a lost rank
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it shows every line twice
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command's to handle
}
_OWN = {
    "RAY_worker_niceness": "0",  # 15 by default: beside anything else, workers would starve
}
START_SECONDS = 120.0
"""How long a Ray of one's own may take to start."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def prepare(*, local: bool) -> None:
    """Set what is not set; call it before ray is imported, for Ray reads the mode only once.

    A Ray of one's own gets a token nobody else knows, kept in this process's environment: other
    users of the machine cannot talk to it, and nothing is written to the home folder.
    """
    for name, value in (_QUIET | (_OWN if local else {})).items():
        os.environ.setdefault(name, value)
    if local and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def token_exists() -> bool:
    """Whether Ray will find an authentication token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(named) if named else Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread, whatever this one uses."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
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
    """Inside, a Ray that starts here has longer than Ray's own 30 seconds to come up.

    Ray asks for its node without a pause, which on a busy machine is what keeps it from coming up.
    """
    from ray._private import services

    theirs: Callable[..., Any] = services.get_node
    end = time.monotonic() + seconds

    def ours(*args: Any) -> Any:
        while True:
            try:
                return theirs(*args)
            except RuntimeError:  # not there yet
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
    """Ctrl-C and SIGTERM wait until Ray has started; a second one does not wait.

    Ray takes SIGTERM for itself, and an exception in the midst of its start can get lost. Where
    nobody handles a signal, and outside the main thread, nothing is changed.
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
