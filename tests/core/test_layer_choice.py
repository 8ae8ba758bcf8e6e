"""What can be decided for one layer."""

from __future__ import annotations

import pytest

from ws_learner import UserError
from ws_learner.core import LayerChoice


def test_a_density_is_a_share_of_the_weights() -> None:
    choice = LayerChoice(pattern="4x1", zeros=30)
    assert choice.density(40, layer="fc") == 0.25
    assert choice.density(30, layer="fc") == 0
    with pytest.raises(UserError, match="`zeros` 30: fc has 29 weights"):
        choice.density(29, layer="fc")


def test_fewer_than_no_zeros_are_refused() -> None:
    with pytest.raises(UserError, match="`zeros` -1: must be 0 or more"):
        LayerChoice(pattern="unstructured", zeros=-1)
