"""Page of the ceiling: measured agreement of two trainings, and what their noise lets expect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.ceiling_statistics import (
    Noise,
    Values,
    agreement,
    expected,
    noise_of_repeats,
    resampled,
)
from benchmarks.made import made_line
from ws_learner.core import write_text

__all__ = ["pairs_of", "write_ceiling_report"]

_FEWEST = 6


class _Place(NamedTuple):
    network: str
    target: float
    epochs: float
    split: str


_HEAD = """\
# Ceiling: how well one training ranks profiles as another does

    python -m benchmarks.ceiling

A reward is judged by how it ranks profiles beside their accuracy after training. That accuracy has
noise of its own: with another seed the same profile trains to another one. No reward can be shown
to rank better than the noise lets it. Correlations are Spearman's; the better half is by the
accuracy that judges, both ways round for two trainings.
"""


def write_ceiling_report(folder: Path, *, source: pd.DataFrame, accuracy: Sequence[Path]) -> str:
    """Write README.md, and return its text.

    Args:
        folder: Folder of trained.csv and of the page.
        source: Table of profiles, each trained once.
        accuracy: Tables of trainings, which may be missing.
    """
    path = folder / "trained.csv"
    rows = pd.read_csv(path) if path.exists() else source.head(0)
    tables = [pd.read_csv(table) for table in accuracy if table.exists()]
    parts = [_HEAD.rstrip(), *_measured(rows), *_noise(rows, tables, source)]
    parts += ["## Made", made_line(folder / "made.csv")]
    text = "\n\n".join(parts) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "README.md", text)
    return text


def pairs_of(rows: pd.DataFrame) -> tuple[Values, Values]:
    """(N,) accuracies of the two seeds with most rows, for the profiles that both have."""
    wide = rows.pivot_table(index="zeros", columns="seed", values="accuracy")
    if wide.shape[1] < 2:
        return np.empty(0), np.empty(0)
    first, second = wide.count().sort_values(ascending=False, kind="stable").index[:2]
    both = wide[[first, second]].dropna()
    return both[first].to_numpy(), both[second].to_numpy()


def _measured(rows: pd.DataFrame) -> Iterator[str]:
    yield "## Measured: the same profiles, two seeds"
    first, second = pairs_of(rows)
    if len(first) < _FEWEST:
        yield f"{len(first)} profiles have been trained with both seeds; {_FEWEST} are needed."
        return
    found = agreement(first, second)
    overall = resampled(lambda a, b: agreement(a, b).overall, first, second)
    better = resampled(lambda a, b: agreement(a, b).better_half, first, second)
    yield "\n".join(
        [
            "| profiles | overall | 95 % interval | better half | 95 % interval |",
            "|---:|---:|---|---:|---|",
            f"| {len(first)} | {found.overall:.2f} | {overall[0]:.2f} to {overall[1]:.2f} "
            f"| {found.better_half:.2f} | {better[0]:.2f} to {better[1]:.2f} |",
        ]
    )
    moved = 100 * (second - first)
    yield (
        "ResNet-20 on CIFAR-10 from the dense network of 89.41 %, 95 % zeros, "
        f"{rows['nb_epochs'].iloc[0]:g} epoch, accuracy on the 4,000 select images. From one seed "
        f"to the other an accuracy changes by {moved.std(ddof=1) / math.sqrt(2):.2f} points "
        "(standard deviation of one training). Intervals are percentiles over profiles drawn with "
        "replacement. All rows: [trained.csv](trained.csv)."
    )


def _noise(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], source: pd.DataFrame
) -> Iterator[str]:
    yield "## Noise of training"
    yield (
        "Spread of the accuracy over trainings of one profile with several seeds, pooled over the "
        "profiles of a table that were trained more than once. The fewer the images, the more of "
        "it is noise of the measurement."
    )
    found = [(name, noise) for table in (*tables, rows) for name, noise in _repeats(table)]
    lines = [
        "| network | zeros | epochs | images | profiles | degrees of freedom | spread, points |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for place, noise in found:
        lines.append(
            f"| {place.network} | {100 * place.target:g} % | {place.epochs:g} | {place.split} "
            f"| {noise.profiles} | {noise.freedom} | {100 * noise.spread:.2f} |"
        )
    yield "\n".join(lines) if found else "No profile was trained more than once."
    target = float(source["target"].iloc[0])
    alike = [
        (place, noise)
        for place, noise in found
        if place.network.startswith("resnet20") and place.target == target
    ]
    if alike:
        yield from _expected(source["accuracy"].to_numpy(), alike)


def _repeats(table: pd.DataFrame) -> Iterator[tuple[_Place, Noise]]:
    """Noise by network, target, length and split, where a profile was trained more than once."""
    if not len(table):
        return
    full = table.assign(
        network=table.get("network", "resnet20"), split=table.get("split", "test")
    ).drop_duplicates(["network", "target", "nb_epochs", "split", "zeros", "seed"])
    for (network, target, epochs, split), part in full.groupby(
        ["network", "target", "nb_epochs", "split"], sort=False
    ):
        noise = noise_of_repeats(part)
        if noise.freedom:
            place = _Place(str(network), float(str(target)), float(str(epochs)), str(split))
            yield place, noise


def _expected(once: Values, alike: Sequence[tuple[_Place, Noise]]) -> Iterator[str]:
    yield "## What this noise lets expect"
    yield (
        f"The {len(once)} profiles of `reward_quality` trained to accuracies with a spread of "
        f"{100 * once.std(ddof=1):.2f} points. Simulated, 2,000 draws each: one training of every "
        "profile beside another, and the profiles' true accuracies beside one training, which is "
        "the most that a score without training can reach."
    )
    lines = [
        "| noise | two trainings, overall | better half | best score, overall | better half |",
        "|---|---:|---:|---:|---:|",
    ]
    for place, noise in sorted(alike, key=lambda pair: pair[1].spread):
        twice, perfect = expected(once, noise.spread)
        long = f"{place.epochs:g} epoch{'' if place.epochs == 1 else 's'}"
        of = f"{place.network}, {long}, {place.split}"
        lines.append(
            f"| {100 * noise.spread:.2f} points ({of}) | {twice.overall:.2f} "
            f"| {twice.better_half:.2f} | {perfect.overall:.2f} | {perfect.better_half:.2f} |"
        )
    lines.append(
        "| the default reward ([measured](../reward_quality/README.md)) | | | 0.77 | 0.24 |"
    )
    yield "\n".join(lines)
