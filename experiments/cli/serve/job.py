"""The process of a run that the service starts: `python -m experiments.cli.serve.job FOLDER`.

It holds the lock of its folder from start to end and outlives the service.
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

from ws_learner.core import say
from ws_learner.service import read_job

__all__ = ["main"]


def main(folder: Path) -> int:
    """Run the folder's command; return its exit code, or 3 if another process runs it."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder.name}: runs already")
            return 3
        job = read_job(folder)
        if job is None:
            say(f"{folder}: holds no command")
            return 2
        code = 1  # also after an error that no one foresaw
        try:
            from experiments.run import main as run

            code = run(job.words, runs=folder.parents[1], prog="ws-learner prune")
        finally:
            job.ended(code)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
