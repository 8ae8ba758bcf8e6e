"""Worker process of the local pool: `python -m ws_learner.search.rollout.worker PIPE DATA DEPTH`.

PIPE is the descriptor of an inherited socket for candidates, DATA that of an inherited file
with the pickled evaluator, DEPTH the limit of recursion, which deep networks need. Standard input
closes when the parent process ends.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

__all__ = ["main"]


def main(pipe: int, data: int, depth: int) -> None:
    """Score candidates from the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_die_with_parent, daemon=True).start()

    sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))
    import cloudpickle
    import torch

    torch.set_num_threads(1)
    with mmap.mmap(data, 0, access=mmap.ACCESS_READ) as pickled:
        evaluator = cloudpickle.loads(pickled)
    with Connection(pipe) as connection:
        while True:
            try:
                zeros = connection.recv()
            except EOFError:
                return
            connection.send(evaluator.score(zeros))


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
