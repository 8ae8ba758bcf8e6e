"""Everything to know before a result is used: what the run said, and what its files tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ws_learner.report.headlines import budget_text
from ws_learner.report.html.limits import cut
from ws_learner.report.html.run_files import RunFiles, plain, text
from ws_learner.report.table import totals

__all__ = ["Notices", "notices_of"]

_ROUTINE = re.compile(
    r"^(run directory: |report: |resuming from step |dense weights: |wrote |critic: |finalists: |"
    r"[^:]{1,120}: the dense network is trained first|training on |"
    r"the dense network is ready|starting a local Ray)"
)
_PROGRESS = re.compile(r"[^:]{1,60}: +\d{1,3} ?%")
_MOST = 200
_ABOVE = 1 + 1e-9


@dataclass(frozen=True)
class Notices:
    """Lines.

    Attributes:
        found: What the files tell, such as rollouts that failed.
        said: What the run said that is not routine, warnings first.
        routine: The other lines.
        left_out: Number of lines that are too many.
        kept: Whether the run kept its messages.
    """

    found: list[str]
    said: list[tuple[str, str]]
    routine: list[str]
    left_out: int
    kept: bool


def notices_of(files: RunFiles) -> Notices:
    """The notices of a run."""
    told = [one for one in files.messages if not _PROGRESS.match(one[1])]
    said = [one for one in told if not _ROUTINE.match(one[1])]
    said.sort(key=lambda one: one[0] != "warning")
    routine = [line for _, line in told if _ROUTINE.match(line)]
    said, more = cut(said, _MOST)
    routine, others = cut(routine, _MOST)
    return Notices([*_found(files)], said, routine, more + others, bool(files.messages))


def _found(files: RunFiles) -> Iterator[str]:
    summary = files.summary
    if files.metric.measured_on != "test":
        yield (
            "There was no test set. The metric was measured on the validation examples, which "
            "helped to choose the ratios; training never saw them."
        )
    failed = plain(summary.get("failed_rollouts"))
    if failed:
        yield f"{failed:.0f} rollouts could not be scored; rollouts.csv says why."
    if summary.get("search_stopped") == "time":
        yield "The search was ended by the clock, so another machine may choose other ratios."
    yield from _missed(files)
    yield from files.problems


def _missed(files: RunFiles) -> Iterator[str]:
    """Targets that the finished network does not meet."""
    target = plain(files.summary.get("target_prune_ratio"))
    budgets = files.summary.get("budget_parts")
    if files.ratios is not None and target is not None and not budgets:
        total = totals(files.ratios)
        short = round(target * total["weights"]) - int(total["zeros"])
        if short > 0:
            yield f"{short:,} zeros fewer than the target {target:.6g} asks for."
    for part in budgets if isinstance(budgets, list) else ():
        if not isinstance(part, Mapping):
            continue
        cost, most = plain(part.get("finished")), plain(part.get("most"))
        if cost is not None and most is not None and cost > most * _ABOVE:
            yield f"The budget {text(part.get('budget'))} is missed: {text(budget_text(part))}."
