"""The table of `status`: what each job is for, how far it is, what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.cli.runs.text_table import fitting, terminal_width, text_table
from ws_learner.core import shown

__all__ = ["job_facts", "job_table"]

_READ_LOGS = 30  # of the newest jobs
_DROPS = ("command", "minutes", "target")
_PROGRESS = re.compile(r"^(\[\d+ of \d+\] )?([A-Za-z][\w .()-]{0,60}): .*?\b(\d{1,3}) ?%")
_RESULT = re.compile(r"^sparse (\S+(?: \S+)*?) \([a-z]+\)  +(\S.*)$")
_CHANGE = re.compile(r"^change  +(\S.*)$")
_ERROR = re.compile(r"^error: (.+)$")
_MOST = 60


def job_facts(log: str, *, state: str) -> tuple[str, str]:
    """Progress and result of a job, from its log; empty where the log does not say it.

    Args:
        log: Everything that the job has printed, which is not trusted.
        state: Ray's word for its state.

    Example:
        >>> job_facts("[2 of 4] search: 12 of 64 (19%), 3 s elapsed", state="RUNNING")
        ('[2 of 4] search 19 %', '')
    """
    progress = result = change = error = ""
    for line in re.split(r"[\r\n]+", log):
        if found := _PROGRESS.match(line):
            progress = f"{found[1] or ''}{found[2]} {found[3]} %"
        elif found := _RESULT.match(line):
            result = found[2] if found[1] == "accuracy" else f"{found[1]} {found[2]}"
        elif found := _CHANGE.match(line):
            change = f" ({found[1].removesuffix(' points')})"
        elif found := _ERROR.match(line):
            error = found[1]
    if state == "SUCCEEDED":
        return "", shown(result + (change if result else ""), most=_MOST)
    return shown(progress, most=_MOST), shown(error, most=_MOST) if state == "FAILED" else ""


def job_table(jobs: Sequence[Any], *, log: Callable[[str], str], now: float | None = None) -> str:
    """A row for each job.

    Args:
        jobs: Ray's descriptions of them, newest first.
        log: Reads a job's log.
        now: Unix seconds; by default the clock's.
    """
    if not jobs:
        return "no runs on this cluster\n"
    moment, rows = time.time() if now is None else now, []
    for place, job in enumerate(jobs):
        about, state = job.metadata or {}, str(job.status.value)
        facts = ("", "")
        if place < _READ_LOGS and state != "PENDING":
            facts = job_facts(_log(log, job.submission_id), state=state)
        minutes = ((job.end_time or moment * 1000) - (job.start_time or moment * 1000)) / 60_000
        rows.append(
            (
                job.submission_id,
                shown(about.get("ws_name", "")),
                shown(about.get("ws_target", ""), most=40),
                state.lower(),
                *facts,
                f"{minutes:.1f}",
                shown(about.get("ws_learner", ""), most=200),
            )
        )
    heads = ("run", "name", "target", "state", "progress", "result", "minutes", "command")
    columns = list(zip(heads, zip(*rows, strict=True), strict=True))
    kept, _ = fitting(columns, drops=_DROPS, width=terminal_width(), least=28)
    names, cells = zip(*kept, strict=True)
    return text_table(names, list(zip(*cells, strict=True)))


def _log(log: Callable[[str], str], run: str) -> str:
    try:
        return log(run)
    except Exception:  # the node of the log is gone; the other rows are not
        return ""
