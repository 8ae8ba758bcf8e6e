"""The recipe for sizes alone: its bounds, and that what is given stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws_learner import UserError
from ws_learner.config import usual_recipe


@given(st.integers(1, 10**7), st.integers(1, 10**10))
def test_it_trains_on_any_size(examples: int, weights: int) -> None:
    recipe = usual_recipe(examples=examples, weights=weights)
    steps = recipe.total_steps(examples)  # refuses a batch that is too large
    assert recipe.batch_size <= 64
    assert 2 <= recipe.nb_epochs <= 40
    if 2 < recipe.nb_epochs < 40:
        assert 1500 <= steps < 1500 + recipe.steps_per_epoch(examples)
    assert 0 < recipe.lrn_rate <= 3e-3


@pytest.mark.parametrize(
    ("weights", "rate"), [(10**4, 3e-3), (10**5, 3e-3), (10**7, 3e-4), (10**9, 3e-5)]
)
def test_the_rate_falls_with_the_root_of_the_weights(weights: int, rate: float) -> None:
    assert usual_recipe(examples=100, weights=weights).lrn_rate == pytest.approx(rate)


def test_what_is_given_stays() -> None:
    recipe = usual_recipe(examples=100, weights=10, epochs=0.5, batch_size=7, lrn_rate=1.0)
    assert (recipe.nb_epochs, recipe.batch_size, recipe.lrn_rate) == (0.5, 7, 1.0)
    with pytest.raises(UserError, match="`batch_size` 0: must be a number above 0"):
        usual_recipe(examples=100, weights=10, batch_size=0)
