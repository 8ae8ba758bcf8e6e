"""Look into the policy of a search, or take a profile from it: `ws-learner policy runs/<one>`.

A run with protocol optimal leaves policy.safetensors: agent, critic and the layers' own
divergences. It gives a profile for any target, without the network, its data or a rollout.

  ws-learner policy runs/<one>                          # table; policy.csv, figures/policy.svg
  ws-learner policy runs/<one> --targets 0.5,0.9,0.95
  ws-learner policy runs/<one> --prune_ratio 0.93 --out ratios.csv
  ws-learner prune ... --prune_ratio 0.93 --policy runs/<one>      # the same, and train

The columns: the critic's price of a layer (1: its divergence counts as measured alone), the
divergence of the network with only this layer pruned to a density of 0.1, and the density that the
layer gets at each target. Bounds are those of the search. With N:M patterns take
`prune --policy`, which makes whole groups.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import (
    RunDir,
    UserError,
    as_path,
    policy_path,
    read_share,
    refuse_unwritable,
    say,
    share_hint,
    write_text,
)
from ws_learner.report import find_run

if TYPE_CHECKING:
    import pandas as pd

    from ws_learner.search import PolicyView

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.policy") -> int:
    """Print the table or write a profile; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = VerbParser(
        prog=prog, description=__doc__, formatter_class=raw, example="ws-learner policy last"
    )
    parser.add_argument("run", type=as_path, help="run: folder, name, last; or policy.safetensors")
    parser.add_argument("--targets", help="prune ratios of the table, such as 0.5,0.9,0.95")
    parser.add_argument("--prune_ratio", type=read_share, help="write the profile of this target")
    parser.add_argument("--out", type=as_path, help="the file for it, which --ratios reads")
    given = parser.parse_args(argv)
    try:
        if (given.prune_ratio is None) != (given.out is None):
            raise UserError("--prune_ratio and --out need each other, as in --out ratios.csv")
        if given.prune_ratio is not None and given.targets is not None:
            raise UserError("--targets: belongs to the table; leave it out with --prune_ratio")
        targets = None if given.targets is None else _targets(given.targets)
        from ws_learner.search import PolicyView

        if given.out is not None:
            refuse_unwritable(given.out, setting="out", makes_folders=False)
        given.run = find_run(given.run)
        view = PolicyView(given.run)
        if given.prune_ratio is not None:
            _write_ratios(view, given.prune_ratio, given.out)
        else:
            _show(view, targets or view.usual_targets(), RunDir(policy_path(given.run).parent))
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    return 0


def _targets(text: str) -> tuple[float, ...]:
    try:
        found = tuple(read_share(part) for part in text.split(","))
    except ValueError:
        found = (0.0,)
    if not all(0 < target < 1 for target in found):
        raise UserError(
            f"--targets {text}: must be prune ratios between 0 and 1 with commas between, such as "
            f"0.5,0.9,0.95{share_hint(text)}"
        )
    return found


def _write_ratios(view: PolicyView, target: float, out: Path) -> None:
    one, frame = view.emit(target), view.ratios(target)
    write_text(out, frame.to_csv(index=False, lineterminator="\n"))
    say(
        f"wrote {out}: {int(one.zeros.sum()):,} zeros ({target:g}), by {one.supplier}, "
        f"predicted reward {one.predicted_reward:.4f}"
    )


def _show(view: PolicyView, targets: Sequence[float], run: RunDir) -> None:
    from ws_learner.report import policy_figure

    profiles = {target: view.emit(target) for target in targets}
    table = view.table(profiles)
    sys.stdout.write(_text(table))
    for target, one in profiles.items():
        outside = "" if view.saved.knows(target) else "; it was not trained for this target"
        say(f"{target:g}: by {one.supplier}, predicted reward {one.predicted_reward:.4f}{outside}")
    sheet, figure = run.path / "policy.csv", run.path / "figures" / "policy.svg"
    write_text(sheet, table.to_csv(index=False, lineterminator="\n"))
    policy_figure(table, view.curves(), figure)
    say(f"wrote {sheet} and {figure}")


def _text(table: pd.DataFrame) -> str:
    from tabulate import tabulate

    heads = [str(name).replace("density/", "at ").replace("_", " ") for name in table.columns]
    rows = table.astype(object).to_numpy().tolist()
    return tabulate(rows, headers=heads, tablefmt="plain", floatfmt=".4g") + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
