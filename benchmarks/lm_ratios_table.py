"""The table of `benchmarks.lm_ratios`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.paired_differences import interval

__all__ = ["REFERENCES", "table"]

REFERENCES = ("uniform", "owl", "progression")
"""Protocols that every other one is compared with."""


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: perplexity of each line, and its differences from the references.

    Args:
        rows: Keys protocol, target, solver, perplexity, nats (a number for each test window),
            zeros, choosing_seconds and ratios, as in `rows.csv`.
    """
    names = [f"nats against {name} (95 %)" for name in REFERENCES]
    lines = [
        f"| zeros | solver | ratios | perplexity | x dense | {' | '.join(names)} | "
        "least and most ratio | choosing s |",
        f"|---:|---|---|---:|---:|{'---:|' * len(REFERENCES)}---|---:|",
    ]
    values = {
        (row["protocol"], row["target"], row["solver"]): np.array(row["nats"].split(), float)
        for row in rows
    }
    dense = next(found for (name, *_), found in values.items() if name == "dense")
    order = sorted(
        (key for key in values if key[0] != "dense"),
        key=lambda key: (key[2], float(key[1]), float(values[key].mean())),
    )
    by_key = {(row["protocol"], row["target"], row["solver"]): row for row in rows}
    for key in order:
        name, target, solver = key
        row, own, cells = by_key[key], values[key], []
        for reference in REFERENCES:
            other = values.get((reference, target, solver))
            if other is None or reference == name:
                cells.append("")
                continue
            gap = own - other
            cells.append(f"{gap.mean():+.3f} ± {interval(gap):.3f}")
        ratios = [float(value) for value in row["ratios"].split()]
        lines.append(
            f"| {float(row['zeros']):.1%} | {solver} | {name} | {np.exp(own.mean()):.2f} | "
            f"{np.exp((own - dense).mean()):.3f} | {' | '.join(cells)} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} | {row['choosing_seconds']} |"
        )
    return "\n".join(lines) + "\n"
