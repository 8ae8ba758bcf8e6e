"""Environment variables that Ray reads when it is imported or started. Free of ray."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["keeping_sigterm", "one_thread_each", "prepare", "token_exists"]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths a user gave stay valid in workers
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it shows every line twice
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command's to handle
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def prepare(*, local: bool) -> None:
    """Set what is not set; call it before ray is imported, for Ray reads the mode only once.

    A Ray of one's own gets a token nobody else knows, kept in this process's environment: other
    users of the machine cannot talk to it, and nothing is written to the home folder.
    """
    for name, value in _QUIET.items():
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
def keeping_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; a handler of ours gets it back."""
    before = signal.getsignal(signal.SIGTERM)
    ours = callable(before) and threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit:  # what Ray's handler does
        if ours:
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)
