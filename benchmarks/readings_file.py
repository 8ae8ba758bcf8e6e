"""A CSV file of readings that grows row by row, over several calls."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ReadingsFile"]


class ReadingsFile:
    """Appends rows; every call that writes to it is a session of its own.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self.rows()
        self.session = int(self.last("session")) + 1

    def rows(self) -> list[dict[str, str]]:
        """All rows, as text."""
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def last(self, name: str) -> float:
        """The last value of a column when the file was opened; 0 if there is none."""
        return float(self._known[-1][name]) if self._known else 0.0

    def add(self, values: Mapping[str, float | str]) -> None:
        """Append a row, and print it."""
        row = {**values, "session": self.session}
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
