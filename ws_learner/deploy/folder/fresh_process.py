"""Open a deploy folder in a process that has nothing of the exporting one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ws_learner.core import UserError

__all__ = ["try_folder"]

_SECONDS = 600


def try_folder(folder: Path, *, threads: int) -> str:
    """Run the loader in a fresh process; return what it says.

    Raises:
        UserError: It fails, or its outputs are others.
    """
    here = str(Path(__file__).parents[3])  # so that the same version is found
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-B", "load.py"],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UserError(
            f"the folder does not work in a fresh process, nothing is left: {lines[-1]}"
        )
    return f"in a fresh process: {'; '.join(done.stdout.strip().splitlines())}"
