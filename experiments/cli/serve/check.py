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
    from experiments.cli.adjust_training import adjust_training
    from experiments.cli.build import build, check_outputs, recipe_for_command, say_adjusted
    from experiments.cli.flags import parse
    from experiments.cli.preflight import check_layers, check_paths
    from experiments.run import make_learner

    command = parse(words, prog="ws-learner prune")
    check_paths(command)
    experiment = build(command)
    check_outputs(command, experiment)
    command = adjust_training(command, experiment)
    say_adjusted(command)
    recipe_for_command(command, experiment.sparse_recipe)
    check_layers(make_learner(command, experiment, run=command.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
