from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.schedules.polynomial import PolynomialSchedule, check_ratios

RAMPS = st.tuples(st.integers(0, 1000), st.integers(1, 5000), st.floats(0.1, 8.0))


def ramp(values: tuple[int, int, float]) -> PolynomialSchedule:
    begin, length, exponent = values
    return PolynomialSchedule(begin, begin + length, exponent)


@given(RAMPS)
def test_share_follows_the_formula(values: tuple[int, int, float]) -> None:
    schedule = ramp(values)
    begin, end, alpha = schedule.begin_step, schedule.end_step, schedule.exponent
    steps = np.arange(begin, end + 1)
    final = 0.75  # the published form, with a final sparsity of its own
    sparsity = final - final * (1 - (steps - begin) / np.float64(end - begin)) ** alpha
    shares = np.array([schedule.share(int(step)) for step in steps])
    np.testing.assert_allclose(final * shares, sparsity, rtol=1e-12, atol=1e-15)
    assert np.all(np.diff(shares) >= 0)


@given(RAMPS, st.integers(0, 100))
def test_share_is_flat_outside_the_ramp(values: tuple[int, int, float], beyond: int) -> None:
    schedule = ramp(values)
    assert schedule.share(schedule.begin_step - beyond) == 0.0
    assert schedule.share(schedule.end_step + beyond) == 1.0


@given(RAMPS, st.integers(1, 700))
def test_masks_are_renewed_regularly_and_at_the_end(
    values: tuple[int, int, float], every: int
) -> None:
    schedule = ramp(values)
    steps = schedule.update_steps(every)
    assert steps[0] == schedule.begin_step
    assert steps[-1] == schedule.end_step
    gaps = np.diff(steps)
    assert np.all(gaps[:-1] == every)
    assert 0 < gaps[-1] <= every
    around = range(schedule.begin_step - 2, schedule.end_step + every + 2)
    assert [s for s in around if schedule.is_update(s, every)] == list(steps)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((5, 5, 3.0), "needs 0 <= begin < end"),
        ((-1, 5, 3.0), "needs 0 <= begin < end"),
        ((7, 5, 3.0), "step 7 to step 5"),
        ((0, 5, 0.0), "exponent 0.0"),
        ((0, 5, math.nan), "exponent nan"),
        ((0, 5, math.inf), "exponent inf"),
    ],
)
def test_an_impossible_ramp_is_refused(values: tuple[int, int, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PolynomialSchedule(*values)


def test_updates_need_an_interval() -> None:
    with pytest.raises(ValueError, match="every 0 steps"):
        PolynomialSchedule(0, 5).update_steps(0)


def test_ratios_place_the_ramp() -> None:
    # PocketFlow's CIFAR-10 run: floor(.1 T), floor(.5 T) of 97,656 steps.
    schedule = PolynomialSchedule.from_ratios(97_656, 0.1, 0.5, 3.0)
    assert (schedule.begin_step, schedule.end_step) == (9_765, 48_828)


@given(st.integers(1, 100), st.integers(0, 99), st.integers(1, 100))
def test_ratios_are_rounded_down_as_decimals(scale: int, begin: int, width: int) -> None:
    end = min(begin + width, 100)
    schedule = PolynomialSchedule.from_ratios(100 * scale, begin / 100, end / 100)
    assert (schedule.begin_step, schedule.end_step) == (begin * scale, end * scale)


@pytest.mark.parametrize("ratios", [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.1, 1.1), (0.1, np.nan)])
def test_ratios_out_of_order_name_their_flags(ratios: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"`iter_ratio_beg` .* `iter_ratio_end`"):
        check_ratios(*ratios)
    with pytest.raises(UserError, match=r"`iter_ratio_beg` .* `iter_ratio_end`"):
        GradualConfig(iter_ratio_beg=ratios[0], iter_ratio_end=ratios[1])


def test_a_training_too_short_for_the_ramp_names_the_remedies() -> None:
    with pytest.raises(UserError, match=r"training of 4 steps .*`iter_ratio_beg`") as caught:
        PolynomialSchedule.from_ratios(4, 0.3, 0.4)
    assert "`nb_epochs`" in str(caught.value)
    assert "`iter_ratio_end`" in str(caught.value)


@pytest.mark.parametrize("total", [25, 100, 200, 343, 2058, 100_000])
def test_a_ramp_has_ten_updates_or_one_every_25_steps(total: int) -> None:
    config = GradualConfig()
    ramp = config.schedule(total)
    length = ramp.end_step - ramp.begin_step
    updates = ramp.update_steps(config.every(length))
    assert len(updates) >= min(10, length)
    assert max(b - a for a, b in itertools.pairwise(updates)) <= 25


def test_a_ramp_shorter_than_the_update_interval_is_refused() -> None:
    config = GradualConfig(mask_update_step=41)
    with pytest.raises(UserError, match=r"`mask_update_step` 41 .* at most 40.*`nb_epochs`"):
        config.schedule(100)
    assert GradualConfig(mask_update_step=40).schedule(100) == PolynomialSchedule(10, 50)


@pytest.mark.parametrize(
    "setting",
    [{"prune_ratio_exp": 0.0}, {"prune_ratio_exp": math.nan}, {"mask_update_step": 0}],
)
def test_bad_settings_name_their_flag(setting: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"`{next(iter(setting))}` "):
        GradualConfig(**setting)  # type: ignore[arg-type]
