"""The checks of a command line without its work: `python -m experiments.cli.serve.check WORDS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.cli.exit_codes import run_with_exit_code

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Check as `ws-learner prune WORDS` does before it works; return 0, or 2 with a message."""
    return run_with_exit_code(lambda: _check(words), words=words)


def _check(words: Sequence[str]) -> int:
    from experiments.cli.flags import parse
    from experiments.cli.preflight import check_layers, check_paths
    from experiments.run import checked_experiment, make_learner

    command = parse(words, prog="ws-learner prune")
    check_paths(command)
    command, experiment = checked_experiment(command)
    check_layers(make_learner(command, experiment, run=command.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
