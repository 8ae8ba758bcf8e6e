"""Which layers matter: `ws-learner sensitivity EXPERIMENT [--patterns 4x1,2:4] [flags]`.

Each layer is pruned alone, at each ratio and pattern; what is left of it is refitted in closed
form, and the network's outputs are compared with the dense network's. Nothing is trained, and
targets are not needed: a minute for ResNet-20.

  ws-learner sensitivity resnet_at_cifar10
  ws-learner sensitivity resnet_at_cifar10 --patterns unstructured,4x1,2:4 --ratios .5,.75,.9
  ws-learner sensitivity resnet_at_ilsvrc12 --data_dir DIR --dense_checkpoint FILE
  ws-learner sensitivity my_experiment.py --ws_exclude 'head*' --out before

How to read the table. A number is the divergence of the outputs with this layer alone at this
share of zeros, for classes the mean KL divergence in nats: 0.01 is hardly seen, 1 is another
network. The bars show it on a logarithmic scale, the same for all layers. Spend zeros where bars
stay low; at equal bars, where weights and MACs are many. The CSV has more columns:

  zeros        number of zeros, the count nearest to the ratio that the pattern can make
  error        the layer's own squared output error after the refit, relative to the outputs' energy
  divergence   as in the table
  slope        derivative of the divergence by ln(density) with all layers at this ratio: the more
               negative, the more the layer's next zeros hurt; equal ones mean a balanced network.
               Noise where a network with all layers at this ratio no longer works

Divergences of single layers nearly add up while they are small. A search (`ws-learner prune`)
also sees how layers make up for each other, and what training repairs.

All other flags are those of `ws-learner prune`, such as --data_dir, --dense_checkpoint,
--ws_include, --outputs, --seed and the experiment's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.cli.build import build
from experiments.cli.command import Command
from experiments.cli.exit_codes import run_with_exit_code
from experiments.cli.flags import parse
from experiments.cli.preflight import check_paths
from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, as_path, read_share, say, share_hint

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["main"]


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.sensitivity"
) -> int:
    """Print the table, write CSV and figures; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = VerbParser(
        prog=prog,
        description=__doc__,
        formatter_class=raw,
        allow_abbrev=False,
        usage=f"{prog} [EXPERIMENT] [--patterns A,B] [--ratios X,Y] [--out DIR] [flags]",
    )
    parser.add_argument("--patterns", help="comma list (default: --pattern, or unstructured)")
    parser.add_argument(
        "--ratios", default="0.5,0.75,0.9", help="comma list of shares of zeros of a layer"
    )
    parser.add_argument(
        "--out", type=as_path, help="folder (default: runs/<experiment>-sensitivity)"
    )
    words = list(sys.argv[1:] if argv is None else argv)
    given, rest = parser.parse_known_args(words)
    return run_with_exit_code(lambda: _main(given, rest, prog=prog), words=words)


def _main(given: argparse.Namespace, words: Sequence[str], *, prog: str) -> int:
    ratios = _numbers(given.ratios)
    command = parse(words, prog=prog)
    check_paths(command)
    if command.lpot is not None or command.nncf is not None:
        raise UserError("--config: give a file of our own settings, not one of LPOT or NNCF")
    patterns = (given.patterns or command.ws.ws_pattern or "unstructured").split(",")
    experiment = build(command)
    _load_weights(command, experiment)

    from experiments.cli.sensitivity_text import sensitivity_text
    from ws_learner.search import database_dir, sensitivity

    location = command.ws.ws_location or experiment.location
    found = sensitivity(
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        patterns=patterns,
        ratios=ratios,
        outputs=command.run.outputs or experiment.outputs,
        config=dataclasses.replace(command.ws, ws_location=location),
        seed=command.run.seed,
        cache_dir=database_dir(),
    )
    folder = given.out or Path("runs") / f"{experiment.name}-sensitivity"
    sys.stdout.write(sensitivity_text(found))
    found.to_csv(folder / "sensitivity.csv")
    for kind in ("svg", "png"):
        found.figure(folder / f"sensitivity.{kind}")
    say(f"wrote sensitivity.csv, .svg and .png in {folder}")
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(read_share(part) for part in text.split(","))
    except ValueError:
        found = (-1.0,)
    if not all(0 <= one <= 1 for one in found):
        raise UserError(
            f"--ratios {text}: must be shares of zeros between 0 and 1 with commas between, such "
            f"as .5,.75,.9{share_hint(text)}"
        )
    return found


def _load_weights(command: Command, experiment: Experiment) -> None:
    """The dense weights that a run would start from; says so if there are none."""
    from experiments.cli.dense_weights import load_weights

    file = command.run.dense_checkpoint or experiment.checkpoint
    if file is not None:
        load_weights(experiment.model, file)
        say(f"dense weights: {file}")
    elif experiment.trained:
        say(f"dense weights: {experiment.origin or experiment.name}")
    else:
        say(
            f"{experiment.name} comes without dense weights: these numbers are of an untrained "
            "network and tell little of a trained one; give --dense_checkpoint FILE, such as the "
            "model.safetensors of a run with --learner full-prec"
        )


if __name__ == "__main__":
    sys.exit(main())
