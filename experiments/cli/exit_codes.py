"""Exit codes: bad input, Ctrl-C and SIGTERM print one line each. Free of torch and ray."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import FrameType

from experiments.cli.flag_aliases import SpeltError, spell_message
from experiments.cli.own_errors import describe_own_error, own_cause, own_lines
from experiments.cli.own_file import own_folders
from ws_learner.core import UserError, message_style, warn

__all__ = ["run_with_exit_code"]


def run_with_exit_code(work: Callable[[], int], *, words: Sequence[str] = ()) -> int:
    """Run a command; return its exit code, or 2 after bad input, 130 (Ctrl-C), 143 (SIGTERM).

    SIGTERM interrupts as Ctrl-C does, so that workers are ended and files left whole.

    Args:
        work: The command.
        words: Its command line; messages name settings as it does.
    """
    with message_style(spell_message(words)):
        return _run(work)


def _report_own(error: Exception) -> int:
    """Report an error inside the user's own file by its lines there; raise any other."""
    folders = own_folders()
    text = None if os.environ.get("WS_TRACEBACK") else describe_own_error(error, folders)
    if text is None:
        raise error
    with message_style(str):
        warn(f"error: the experiment {text}\n  WS_TRACEBACK=1 shows every frame")
    return 2


def _run(work: Callable[[], int]) -> int:
    terminated = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # the one exception that Ray's waiting lets through

    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, interrupt) if ours else None
    try:
        code = work()
    except UserError as error:
        cause = own_cause(error, own_folders())
        if cause is not None and os.environ.get("WS_TRACEBACK"):
            raise cause from None
        with message_style(str) if isinstance(error, SpeltError) else nullcontext():
            warn(f"error: {error}")
        for line in own_lines(cause, own_folders()) if cause is not None else ():
            warn(f"  {line}")
        code = 2
    except Exception as error:
        code = _report_own(error)
    except KeyboardInterrupt:
        warn("stopped; the same command resumes from the last checkpoint, at most a minute old")
        code = 130
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)
    return 143 if terminated else code
