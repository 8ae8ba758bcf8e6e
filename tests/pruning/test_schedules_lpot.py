"""Schedules against formulas in float64 and the published worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.schedules.epoch_schedule import EpochLinearSchedule, frequency_in_steps
from ws_learner.pruning.schedules.oneshot import FromInitial, OneShotSchedule
from ws_learner.pruning.schedules.polynomial import (
    CosineSchedule,
    CubeSchedule,
    ExponentialSchedule,
    LinearSchedule,
    Schedule,
)
from ws_learner.pruning.schedules.registry import build_schedule

NAMES = ["polynomial", "linear", "cube", "cos", "exp", "oneshot", "epoch-linear"]


@given(st.integers(0, 50), st.integers(1, 400), st.floats(0.01, 0.99))
def test_curves_follow_their_formulas(begin: int, length: int, target: float) -> None:
    c = np.arange(length + 1, dtype=np.float64) / length
    curves = {
        LinearSchedule(begin, begin + length): c,
        CubeSchedule(begin, begin + length): c**3,
        CosineSchedule(begin, begin + length): 1 - np.cos(np.pi * c / 2),
        ExponentialSchedule(begin, begin + length, target): (1 - (1 - target) ** c) / target,
    }
    for schedule, expected in curves.items():
        found = [schedule.share(begin + step) for step in range(length + 1)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert schedule.share(begin + length) == 1.0
        assert schedule.share(begin - 1) == 0.0


def at_quarters(schedule: Schedule, target: float) -> list[float]:
    return [target * schedule.share(step) for step in range(0, 41, 10)]


@pytest.mark.parametrize(
    ("name", "initial", "published"),
    [
        # Neural Compressor 3.7, target 0.8 in four updates.
        ("exp", 0.0, [0, 0.3313, 0.5528, 0.7009, 0.8]),
        ("cos", 0.0, [0, 0.0609, 0.2343, 0.4939, 0.8]),
        ("linear", 0.0, [0, 0.2, 0.4, 0.6, 0.8]),
        ("cube", 0.0, [0, 0.0125, 0.1, 0.3375, 0.8]),
        ("exp", 0.3, [0.3, 0.4882, 0.6258, 0.7264, 0.8]),
    ],
)
def test_worked_examples(name: str, initial: float, published: list[float]) -> None:
    schedule = build_schedule(name, begin=0, end=40, target=0.8, initial=initial)  # type: ignore[arg-type]
    assert at_quarters(schedule, 0.8) == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(
    ("settings", "formula", "target", "published"),
    [
        # (s, E, f): the published tables; where the original stops short the last is the target.
        ((0, 4, 2), "old", 0.6, [0, 0, 0.3, 0.3, 0.6, 0.6]),
        ((0, 4, 2), "new", 0.6, [0, 0.24, 0.24, 0.48, 0.6, 0.6]),
        ((1, 3, 1), "old", 0.97, [0, 0, 0.485, 0.97]),
        ((1, 3, 1), "new", 0.97, [0, 0.3233, 0.6467, 0.97]),
        ((0, 4, 1), "old", 0.97, [0, 0.2425, 0.485, 0.7275, 0.97]),
        ((0, 4, 1), "new", 0.97, [0.194, 0.388, 0.582, 0.776, 0.97]),
        ((0, 3, 2), "old", 0.6, [0, 0, 0.4, 0.6, 0.6]),
        ((0, 3, 2), "new", 0.6, [0, 0.3, 0.3, 0.6]),
        ((2, 2, 1), "old", 0.5, [0, 0, 0.5, 0.5]),
        ((2, 2, 1), "new", 0.5, [0, 0, 0.5, 0.5]),
        ((0, 9, 1), "new", 0.4, [0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4]),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_both_epoch_formulas(
    settings: tuple[int, int, float],
    formula: str,
    target: float,
    published: list[float],
    steps: int,
) -> None:
    start, end, frequency = settings
    schedule = EpochLinearSchedule(
        start_epoch=start,
        end_epoch=end,
        steps_per_epoch=steps,
        update_frequency=frequency,
        formula=formula,  # type: ignore[arg-type]
    )
    in_force, current = [], 0.0
    for step in range(len(published) * steps):
        if schedule.is_update(step):
            current = target * schedule.share(step)
        if step % steps == 0:
            in_force.append(current)
    assert in_force == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(("formula", "initial"), [("old", 0.05), ("new", 0.05)])
def test_an_initial_sparsity_of_epochs(formula: str, initial: float) -> None:
    inner = EpochLinearSchedule(start_epoch=0, end_epoch=4, steps_per_epoch=1, formula=formula)  # type: ignore[arg-type]
    schedule = FromInitial(inner, initial / 0.25)
    published = {"old": [0.05, 0.1, 0.15, 0.2, 0.25], "new": [0.09, 0.13, 0.17, 0.21, 0.25]}
    assert [0.25 * schedule.share(e) for e in range(5)] == pytest.approx(published[formula])


@given(
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(1, 30),
    st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 7.0]),
    st.sampled_from(["old", "new"]),
)
def test_the_last_update_is_always_on_target(
    start: int, epochs: int, steps: int, frequency: float, formula: str
) -> None:
    schedule = EpochLinearSchedule(
        start_epoch=start,
        end_epoch=start + epochs,
        steps_per_epoch=steps,
        update_frequency=frequency,
        formula=formula,  # type: ignore[arg-type]
    )
    updates = schedule.update_steps()
    shares = [schedule.share(step) for step in updates]
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert start * steps == updates[0] <= updates[-1] < (start + epochs + 1) * steps
    assert set(np.diff(updates[:-1])) <= {max(1, round(min(frequency, 1) * steps))}
    assert [s for s in range(updates[-1] + 5) if schedule.is_update(s)] == list(updates)
    every_epoch = {e * steps for e in range(start, start + epochs + 1)}
    assert frequency < 1 or set(updates) == every_epoch


def test_the_seeds_frequency_of_a_tenth_of_an_epoch() -> None:
    schedule = EpochLinearSchedule(
        start_epoch=0, end_epoch=2, steps_per_epoch=100, update_frequency=0.1
    )
    assert schedule.update_steps() == tuple(range(0, 300, 10))
    expected = [(k + 1) / 30 for k in range(30)]
    assert [schedule.share(s) for s in schedule.update_steps()] == pytest.approx(expected)
    assert (frequency_in_steps(0.1, 5), frequency_in_steps(0.1, 100)) == (1, 10)
    assert frequency_in_steps(2, 50) == 100


def test_one_shot_and_initial() -> None:
    schedule = OneShotSchedule(7)
    assert [schedule.share(s) for s in (0, 6, 7, 8)] == [0, 0, 1, 1]
    assert [s for s in range(20) if schedule.is_update(s, 3)] == [7]
    initial = FromInitial(LinearSchedule(10, 20), 0.4)
    shares = [initial.share(s) for s in (9, 10, 15, 20, 30)]
    assert shares == pytest.approx([0, 0.4, 0.7, 1, 1])


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 40), st.integers(1, 80), st.integers(1, 30), st.integers(1, 90))
def test_every_schedule_reaches_the_target_at_any_frequency(
    name: str, begin: int, length: int, epoch: int, every: int
) -> None:
    schedule = build_schedule(
        name,  # type: ignore[arg-type]
        begin=begin,
        end=begin + length,
        target=0.7,
        initial=0.2,
        steps_per_epoch=epoch,
    )
    updates = schedule.update_steps(every)
    assert schedule.share(updates[-1]) == 1.0
    assert updates[-1] == schedule.end_step <= begin + length
    shares = [schedule.share(step) for step in updates]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_what_schedules_refuse() -> None:
    with pytest.raises(UserError, match="exp cannot reach"):
        build_schedule("exp", begin=0, end=9, target=1.0)
    with pytest.raises(UserError, match=r"`initial_ratio` 0\.8"):
        build_schedule("linear", begin=0, end=9, target=0.5, initial=0.8)
    with pytest.raises(UserError, match="steps an epoch"):
        build_schedule("epoch-linear", begin=0, end=9, target=0.5)
    with pytest.raises(UserError, match="number of steps in an epoch"):
        GradualConfig(update_frequency=0.5)
    with pytest.raises(ValueError, match="start <= end"):
        EpochLinearSchedule(start_epoch=3, end_epoch=2, steps_per_epoch=1)
    with pytest.raises(ValueError, match="above 0"):
        EpochLinearSchedule(start_epoch=0, end_epoch=2, steps_per_epoch=1, update_frequency=0)
    with pytest.raises(ValueError, match="target in"):
        ExponentialSchedule(0, 5, 1.0)
