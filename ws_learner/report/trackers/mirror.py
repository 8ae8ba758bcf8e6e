"""Sends to a tracker what is new in a run's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ws_learner.core import sha256_of
from ws_learner.report.runs.differing_settings import settings_of
from ws_learner.report.runs.fields import number, read_object
from ws_learner.report.runs.label import read_label
from ws_learner.report.trackers.csv_rows import as_number, numbers, read_rows
from ws_learner.report.trackers.sent import Sent, read_sent, write_sent
from ws_learner.report.trackers.tracker import EndState, Tracker

__all__ = ["Mirror"]

Row = tuple[int, Mapping[str, float]]

_FILES = ("report.md", "report.html", "config.yaml", "summary.json", "ratios.csv", "rollouts.csv")
_OF_ROLLOUTS = ("reward", "accuracy", "divergence", "overall_ratio", "seconds")


class Mirror:
    """One run at one tracker.

    What is sent is noted before it is sent: a process killed in between leaves out a few rows, and
    none is there twice. After an error of the tracker the note is taken back.
    """

    def __init__(self, run: Path, tracker: Tracker) -> None:
        self.run, self.tracker = run, tracker
        self._sent = Sent()
        self._seen: dict[str, tuple[int, int]] = {}

    def begin(self) -> None:
        """Open the run's entry."""
        label, sent = read_label(self.run), read_sent(self.run, self.tracker.kind)
        name = label.name or self.run.absolute().name
        place = self.tracker.begin(self.run, name=name, tags=label.tags, place=sent.place)
        self._sent = sent if place == sent.place else Sent(place=place)
        write_sent(self.run, self.tracker.kind, self._sent)

    def update(self) -> None:
        """Send what is new."""
        if not self._sent.parameters or self._changed("summary.json"):
            self._parameters()
        if self._changed("metrics.csv"):
            self._metrics()
        if self._changed("rollouts.csv"):
            self._rollouts()

    def end(self, state: EndState) -> None:
        """Send results and files, if there are any, and close the entry."""
        self.update()
        if (self.run / "summary.json").exists():
            self._results()
            for name in _FILES:
                self._file(self.run / name)
        self.tracker.end(state)

    def _parameters(self) -> None:
        new = {k: v for k, v in settings_of(self.run).items() if k not in self._sent.parameters}
        if new:
            names = [*self._sent.parameters, *new]
            self._send(lambda: self.tracker.parameters(new), parameters=names)

    def _metrics(self) -> None:
        """Rows of `metrics.csv` beyond the last step of their phase; a step may have several."""
        steps, names, rows = dict(self._sent.steps), list(self._sent.names), list[Row]()
        for row in read_rows(self.run / "metrics.csv"):
            phase, step = row.get("phase") or "", as_number(row.get("step"))
            if step is None or step < steps.get(phase, -1):
                continue
            above = f"{phase}/" if phase else ""
            values = numbers(row, leaving=("step", "phase"), above=above)
            if step == steps.get(phase):
                values = {name: value for name, value in values.items() if name not in names}
            else:
                names = [name for name in names if not name.startswith(above)]
            steps[phase], names = int(step), [*names, *values]
            rows.append((int(step), values))
        self._send_rows(rows, steps=steps, names=names)

    def _rollouts(self) -> None:
        best, rows = self._sent.best, list[Row]()
        listed = list(read_rows(self.run / "rollouts.csv"))
        for place, row in enumerate(listed[self._sent.rollouts :], self._sent.rollouts):
            kept = {name: row[name] for name in _OF_ROLLOUTS if name in row}
            values = numbers(kept, above="search/")
            reward = values.get("search/reward")
            if reward is not None:
                best = reward if best is None else max(best, reward)
                values["search/best_reward"] = best
            rows.append((place, values))
        self._send_rows(rows, rollouts=max(len(listed), self._sent.rollouts), best=best)

    def _results(self) -> None:
        summary = read_object(self.run / "summary.json")
        found = {name: number(summary, name) for name in summary}
        new = {k: v for k, v in found.items() if v is not None and k not in self._sent.results}
        row = (0, {f"result/{name}": value for name, value in new.items()})
        self._send_rows([row] if new else [], results=[*self._sent.results, *new])

    def _file(self, file: Path) -> None:
        if file.is_file() and self._sent.files.get(file.name) != (digest := sha256_of(file)):
            files = {**self._sent.files, file.name: digest}
            self._send(lambda: self.tracker.artifact(file), files=files)

    def _send_rows(self, rows: Sequence[Row], **changes: Any) -> None:
        kept = [row for row in rows if row[1]]
        if kept:
            self._send(lambda: self.tracker.metrics(kept), **changes)

    def _send(self, send: Callable[[], None], **changes: Any) -> None:
        """Note the changes, then send; take them back if that fails."""
        before, self._sent = self._sent, replace(self._sent, **changes)
        write_sent(self.run, self.tracker.kind, self._sent)
        try:
            send()
        except BaseException:
            self._sent = before
            write_sent(self.run, self.tracker.kind, before)
            raise

    def _changed(self, name: str) -> bool:
        """Whether a file is there and another than the last time it was asked for."""
        try:
            about = (self.run / name).stat()
        except OSError:
            return False
        now, before = (about.st_mtime_ns, about.st_size), self._seen.get(name)
        self._seen[name] = now
        return now != before
