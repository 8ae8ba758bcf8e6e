"""Name a run, or tag it, afterwards. It stays the same run: the name is no setting.

RUN is a folder, a name, the beginning of a folder's name, or `last`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, say
from ws_learner.report import find_run, is_run, write_label

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "ws-learner label") -> int:
    """Write the label; return the exit code: 0, or 2 after bad input."""
    parser = VerbParser(prog=prog, description=__doc__, example="ws-learner label last --tag paper")
    add = parser.add_argument
    add("run", metavar="RUN", help="the run")
    add("--name", help="its name; '' takes it away")
    add("--tag", action="append", default=[], help="a tag to add; repeat it for several")
    add("--untag", action="append", default=[], metavar="TAG", help="a tag to take away")
    add("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where names are found")
    given = parser.parse_args(argv)
    try:
        run = find_run(given.run, folder=given.runs)
        if not is_run(run):
            raise UserError(f"`run` {run}: holds no run; give a folder under runs/")
        label = write_label(run, name=given.name, tags=given.tag, without=given.untag)
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    print(f"{run}: name {label.name or '-'}, tags {', '.join(label.tags) or '-'}")
    return 0
