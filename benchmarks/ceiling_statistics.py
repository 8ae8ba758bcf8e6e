"""How far two trainings of the same profiles agree, measured and expected from their noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

__all__ = ["Agreement", "Noise", "agreement", "expected", "noise_of_repeats", "resampled"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Spearman correlations of two rankings of the same profiles.

    Attributes:
        overall: Over all profiles.
        better_half: Among the half that is best by the second ranking.
    """

    overall: float
    better_half: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Spread of repeated trainings of one profile.

    Attributes:
        spread: Standard deviation of accuracies of one profile, pooled over profiles.
        profiles: Profiles that were trained more than once.
        freedom: Degrees of freedom: repeated trainings, less one for each profile.
    """

    spread: float
    profiles: int
    freedom: int


def agreement(first: Values, second: Values, *, both_ways: bool = True) -> Agreement:
    """Spearman correlations of two measurements.

    Args:
        first: (N,) values, N at least 4.
        second: (N,) values.
        both_ways: Take the better half by either of the two, and the mean of both results, for
            two measurements of one kind. False takes the half by `second` alone, as for a score
            that is judged by accuracies.
    """
    return Agreement(
        overall=_spearman(first, second),
        better_half=float(
            np.mean(
                [_among_best(first, second)] + ([_among_best(second, first)] if both_ways else [])
            )
        ),
    )


def resampled(
    statistic: Callable[[Values, Values], float],
    first: Values,
    second: Values,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a statistic of pairs: percentiles over profiles drawn with replacement."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(first), size=(draws, len(first)))
    values = [statistic(first[own], second[own]) for own in places]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def noise_of_repeats(rows: pd.DataFrame) -> Noise:
    """Pooled spread of trainings that differ in their seed alone.

    Args:
        rows: Columns zeros (a profile), seed and accuracy, of one network, target and length.
    """
    groups = [part["accuracy"] for _, part in rows.groupby("zeros") if len(part) > 1]
    freedom = sum(len(part) - 1 for part in groups)
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in groups)
    spread = float(np.sqrt(squares / freedom)) if freedom else float("nan")
    return Noise(spread=spread, profiles=len(groups), freedom=freedom)


def expected(
    once: Values, noise: float, *, draws: int = 2000, seed: int = 0
) -> tuple[Agreement, Agreement]:
    """Agreement that the noise of training leaves, by simulation.

    The accuracies of single trainings are drawn towards their mean until their variance is what
    the noise leaves. Normal noise is then added, twice.

    Args:
        once: (N,) accuracy of one training of each profile.
        noise: Standard deviation of repeated trainings of one profile, in the same unit.
        draws: Number of simulations.
        seed: Of the simulation.

    Returns:
        One training against another; and the profiles' true accuracies against one training,
        which is the most that a score without training can reach.
    """
    rng = np.random.default_rng(seed)
    share = max(0.0, 1.0 - noise**2 / float(once.var(ddof=1)))
    truth = once.mean() + np.sqrt(share) * (once - once.mean())
    pairs, perfect = [], []
    for _ in range(draws):
        first, second = (truth + noise * rng.normal(size=len(truth)) for _ in range(2))
        pairs.append(agreement(first, second))
        perfect.append(agreement(truth, second, both_ways=False))
    return _mean(pairs), _mean(perfect)


def _mean(found: list[Agreement]) -> Agreement:
    return Agreement(
        overall=float(np.mean([one.overall for one in found])),
        better_half=float(np.mean([one.better_half for one in found])),
    )


def _among_best(values: Values, judge: Values) -> float:
    best = np.argsort(-judge, kind="stable")[: len(judge) // 2]
    return _spearman(values[best], judge[best])


def _spearman(first: Values, second: Values) -> float:
    ranks = [stats.rankdata(values) for values in (first, second)]
    spreads = [own.std() for own in ranks]
    if not all(spreads):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
