"""A small version of every table that the documents quote, one after the other.

    python -m benchmarks.all --quick [--only accuracy families]
    python -m benchmarks.all --list

Each runs in a process of its own; what it prints goes to runs/quick/logs. Prints a line for each
table and exits with 1 if one failed. Figures of small versions mean nothing; a limit that one
misses is named and is no failure. `--list` prints the page of all tables, with the whole commands.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table_entry import QUICK, Table
from benchmarks.table_list import TABLES, page
from ws_learner.core import UserError, say, suggest, track

__all__ = ["Outcome", "main", "run_quick"]

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a small version ended.

    Attributes:
        name: Name of the table.
        state: `passed`, `passed, missed its limit`, `failed` with a reason, or `none` with one.
        seconds: By the clock.
        processor: Seconds of processors, of it and its ended children.
    """

    name: str
    state: str
    seconds: float = 0.0
    processor: float = 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or print the page; return 0, 1 if a table failed, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="run the small versions")
    parser.add_argument("--list", action="store_true", help="print the page of all tables")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these tables")
    parser.add_argument("--minutes", type=float, default=10, help="limit of each (default 10)")
    given = parser.parse_args(argv)
    if given.list:
        print(page(), end="")
        return 0
    try:
        chosen = _chosen(given.only)
        if not given.quick:
            raise UserError(
                "give --quick, or --list; whole tables take hours each and have a command of their "
                "own, which --list prints"
            )
    except UserError as error:
        say(f"error: {error}")
        return 2
    return _run_all(chosen, seconds=60 * given.minutes)


def _chosen(names: Sequence[str] | None) -> list[Table]:
    known = {table.name: table for table in TABLES}
    for name in names or ():
        if name not in known:
            raise UserError(f"--only {name}: {suggest(name, known)}")
    wanted = set(names or known)
    wanted |= {known[name].needs for name in wanted}
    return [table for table in TABLES if table.name in wanted]


def _run_all(tables: Sequence[Table], *, seconds: float) -> int:
    shutil.rmtree(_ROOT / QUICK, ignore_errors=True)  # a finished small version would not run
    outcomes = []
    with track("tables", total=len(tables)) as progress:
        for table in tables:
            outcomes.append(run_quick(table, seconds=seconds))
            progress.advance(note=f"{table.name}: {outcomes[-1].state}")
    for one in outcomes:
        print(
            f"{one.name:20} {one.seconds:7.1f} s {one.processor:7.1f} s of processors  {one.state}"
        )
    ran = [one for one in outcomes if not one.state.startswith("none")]
    failed = [one for one in ran if one.state.startswith("failed")]
    print(
        f"{len(ran) - len(failed)} of {len(ran)} passed in {sum(o.seconds for o in ran) / 60:.1f} "
        f"minutes, {sum(o.processor for o in ran) / 60:.1f} of processors; "
        f"{len(outcomes) - len(ran)} have no small version"
    )
    return 1 if failed else 0


def run_quick(table: Table, *, seconds: float) -> Outcome:
    """Run the small version of a table.

    Args:
        table: The table.
        seconds: After so long it is stopped, and has failed.
    """
    if not table.quick:
        return Outcome(name=table.name, state=f"none: {table.why}")
    log = _ROOT / QUICK / "logs" / f"{table.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    begun, used = time.perf_counter(), _children()
    command = [sys.executable, "-m", *shlex.split(table.quick)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with log.open("w") as file:
        try:
            code = subprocess.run(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    return Outcome(
        name=table.name,
        state=_state(table, code, log.read_text(errors="replace"), log),
        seconds=time.perf_counter() - begun,
        processor=_children() - used,
    )


def _state(table: Table, code: int | None, text: str, log: Path) -> str:
    where = log.relative_to(_ROOT)
    if code is None:
        return f"failed: took too long, see {where}"
    if code == 0 and ": failed, " not in text:  # jobs that `run_jobs` left out
        return "passed"
    if code == 1 and table.limit and "Traceback" not in text:
        return "passed, missed its limit"
    return f"failed: code {code}, see {where}"


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
