"""Write the report of a finished run again: `ws-learner report runs/<one>`.

By default it writes `report.html` into the run's folder: one page that loads nothing, to send or
to print. It is made from the files in the folder, so it also works for runs that others sent, and
shows what was added since, such as the milliseconds of `ws-learner export --to deploy`.

  ws-learner report runs/<one>
  ws-learner report runs/<one> --out for_anna.html
  ws-learner report runs/<one> --out report.md          # Markdown, with figures in the run's folder
  ws-learner report runs/<one> --picture run.svg        # one picture, for a README or a slide
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, as_path, refuse_unwritable, say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.report") -> int:
    """Write the report; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = VerbParser(
        prog=prog, description=__doc__, formatter_class=raw, example="ws-learner report last"
    )
    parser.add_argument("run", type=as_path, help="a finished run: its folder, its name, or last")
    parser.add_argument(
        "--out", type=as_path, help="the file, .html or .md (default: report.html in the run)"
    )
    parser.add_argument(
        "--picture",
        type=as_path,
        help="draw metric, size, latency and ratios in this file, .svg or .png; no page is written "
        "unless --out asks for it",
    )
    given = parser.parse_args(argv)
    try:
        written = _write(given.run, out=given.out, picture=given.picture)
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    for path in written:
        say(f"wrote {path}, {path.stat().st_size:,} bytes")
    return 0


def _write(run: Path, *, out: Path | None, picture: Path | None) -> list[Path]:
    """Write what was asked for; return the files."""
    from ws_learner.report import (
        draw_summary,
        find_run,
        refuse_other_ending,
        refuse_other_picture,
        write_report_file,
    )

    run = find_run(run)
    if out is not None:
        refuse_other_ending(out, name="out")
        refuse_unwritable(out, setting="out", makes_folders=False)
    if picture is not None:
        refuse_other_picture(picture, name="picture")
        refuse_unwritable(picture, setting="picture", makes_folders=False)
    written = [] if picture is None else [draw_summary(run, picture)]
    if out is not None or picture is None:
        written.append(write_report_file(run, out or run / "report.html"))
    return written


if __name__ == "__main__":
    sys.exit(main())
