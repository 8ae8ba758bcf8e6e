"""Sparsity of a saved network: `python -m experiments.inspect_model FILE [--pattern 4x1]`.

Reads safetensors, a run directory, or a plain PyTorch state_dict (`.pt`, `.pth`); prints a table,
or with `--csv` the same as comma-separated values. With `--pattern` it says which of the tensors
with zeros hold the pattern exactly; `--check` exits with 1 if one does not, or none has a zero.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, as_path, name_fits, say
from ws_learner.report import find_run

if TYPE_CHECKING:
    import pandas as pd

    from ws_learner.pruning import Pattern

__all__ = ["main"]


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.inspect_model"
) -> int:
    """Print the table; return the exit code: 0, or 2 after bad input."""
    parser = VerbParser(prog=prog, description=__doc__, example="ws-learner inspect last")
    parser.add_argument(
        "file", type=as_path, help="weights: .safetensors, .pt, .pth; or a run: folder, name, last"
    )
    parser.add_argument("--pattern", help="count pruned units of it, such as 4x1, 2:4, 1xchannel")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="look at these tensors only, such as '*.mlp.*'"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless all pruned tensors hold --pattern"
    )
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")
    given = parser.parse_args(argv)
    try:
        if given.check and given.pattern is None:
            raise UserError("--check: needs --pattern, such as --pattern 2:4")
        frame, totals = _inspect(find_run(given.file), given.pattern, only=given.only)
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    sys.stdout.write(frame.to_csv(index=False) if given.csv else _text(frame, totals))
    if given.pattern is not None:
        say(_verdict(frame, given.pattern))
    return int(given.check and not _holds(frame))


def _holds(frame: pd.DataFrame) -> bool:
    """Whether there are pruned tensors, and all of them hold the pattern."""
    return bool((frame["holds"] == "yes").any() and not (frame["holds"] == "no").any())


def _verdict(frame: pd.DataFrame, pattern: str) -> str:
    pruned = frame[frame["holds"] != ""]
    if pruned.empty:
        return f"pattern {pattern}: no matrix or kernel has a zero"
    broken = pruned.loc[pruned["holds"] == "no", "name"].tolist()
    held = f"pattern {pattern}: {len(pruned) - len(broken)} of {len(pruned)} tensors hold it"
    return f"{held}, not {', '.join(broken)}" if broken else held


def _inspect(
    file: Path, pattern: str | None, *, only: Sequence[str] | None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from experiments.cli.dense_weights import load_dense_state
    from ws_learner.pruning import tensor_table, tensor_totals

    units = None if pattern is None else _units(pattern)
    state = load_dense_state(file)
    if only is not None:
        found = [name for name in state if any(name_fits(name, wanted) for wanted in only)]
        if not found:
            raise UserError(f"--only {' '.join(only)}: {file} has no tensor of such a name")
        state = {name: state[name] for name in found}
    frame = tensor_table(state, pattern=units)
    return frame, tensor_totals(frame)


def _units(text: str) -> Pattern:
    from ws_learner.pruning import ByRole, HeadPattern, PerLayerNM, parse_pattern

    pattern = parse_pattern(text)
    if isinstance(pattern, HeadPattern):
        raise UserError(
            f"--pattern {text}: a file of weights does not tell how many heads there are; count "
            "with a block as high as a head is wide, such as --pattern 64x768"
        )
    if isinstance(pattern, ByRole | PerLayerNM):
        raise UserError(
            f"--pattern {text}: a file knows no roles and no N; name one pattern and its tensors, "
            "as in --pattern 2:4 --only '*.fc1.weight' '*.fc2.weight'"
        )
    return pattern


def _text(frame: pd.DataFrame, totals: dict[str, Any]) -> str:
    from tabulate import tabulate

    shown = frame.drop(columns="weights")
    if frame["block_sparsity"].isna().all():
        shown = shown.drop(columns="block_sparsity")
    table = tabulate(
        shown.astype(object).where(shown.notna(), "").to_numpy().tolist(),
        headers=list(shown.columns),
        tablefmt="plain",
        floatfmt=".4f",
    )
    lines = [
        f"{label}: {totals[f'{prefix}zeros']:,} of {totals[f'{prefix}weights']:,} values are zero "
        f"({totals[f'{prefix}sparsity']:.2%}) in {totals[f'{prefix}tensors']} tensors"
        for label, prefix in (("all", ""), ("matrices and kernels", "matrix_"))
    ]
    return "\n".join([table, "", *lines]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
