"""Tables of what `benchmarks.long_ground` recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.readings_file import ReadingsFile
from benchmarks.trend import trend

__all__ = ["longest_session", "print_report"]

_WARM_UP = 100
_NO_READINGS = {"run", "session", "pools"}

Rows = Sequence[dict[str, str]]


def print_report(folder: Path) -> None:
    """Print Markdown tables of `ray.csv` and of each `search_<protocol>.csv`."""
    if rows := ReadingsFile(folder / "ray.csv").rows():
        _print_slopes(longest_session(rows))
    for path in sorted(folder.glob("search_*.csv")):
        _print_search(path.stem.removeprefix("search_"), ReadingsFile(path).rows())


def longest_session(rows: Rows) -> Rows:
    """Readings of the driver that made the most runs, without its first 100 runs.

    Shorter sessions keep all but their first reading.
    """
    counts = Counter(row["session"] for row in rows)
    found = [row for row in rows if row["session"] == counts.most_common(1)[0][0]]
    first = int(found[0]["run"])
    late = [row for row in found if int(row["run"]) - first >= _WARM_UP]
    return late if len(late) >= 3 else found[1:]


def _print_slopes(rows: Rows) -> None:
    if len(rows) < 3:
        print(f"{len(rows)} readings over Ray after the warm-up: too few for slopes\n")
        return
    runs = [float(row["run"]) for row in rows]
    print(f"Runs {runs[0]:.0f} to {runs[-1]:.0f}, {len(rows)} readings, slopes per 1,000 runs:\n")
    print("| reading | mean | slope | 95 % interval | flat |\n|---|---:|---:|---:|---|")
    for name in rows[0]:
        if name in _NO_READINGS:
            continue
        found = trend(runs, [float(row[name]) for row in rows])
        slope, low, high = (1000 * value for value in found[:3])
        flat = "yes" if found.flat else "no"
        print(f"| {name} | {found.level:.4g} | {slope:+.3g} | {low:+.3g} to {high:+.3g} | {flat} |")
    print()


def _print_search(protocol: str, rows: Rows) -> None:
    """Every fourth reading, and the last."""
    names = [name for name in rows[0] if name not in ("proposer_wall_s", "session")]
    print(f"{protocol}\n\n| " + " | ".join(names) + " |\n|" + "---:|" * len(names))
    for row in [row for place, row in enumerate(rows) if place % 4 == 3 or row is rows[-1]]:
        print("| " + " | ".join(row[name] for name in names) + " |")
    print()
