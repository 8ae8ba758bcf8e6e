"""Rollout settings: what is refused, and that torch is not needed for them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ws_learner.config.rollout import LEVELS, RolloutConfig
from ws_learner.core.errors import UserError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rg_solver": "closed_form"}, ["`rg_solver` closed_form", "did you mean closed-form?"]),
        ({"reward_signal": "acuracy"}, ["`reward_signal` acuracy", "did you mean accuracy?"]),
        ({"reward_type": "both"}, ["`reward_type` both", "multi-obj, single-obj"]),
        ({"lrn_rate_ft": 0.0}, ["`lrn_rate_ft` 0.0", "above 0"]),
        ({"lrn_rate_rg": float("nan")}, ["`lrn_rate_rg` nan", "above 0"]),
        ({"nb_iters_ft": -1}, ["`nb_iters_ft` -1", "at least 0"]),
        ({"nb_iters_rg": 0}, ["`nb_iters_rg` 0", "at least 1"]),
        ({"nb_smpls_rg": 0}, ["`nb_smpls_rg` 0", "at least 1"]),
        ({"levels": ()}, ["levels ()", "ascending"]),
        ({"levels": (0.5, 0.4)}, ["levels (0.5, 0.4)", "ascending"]),
        ({"levels": (0.5, 1.0)}, ["levels (0.5, 1.0)", "[0, 1)"]),
    ],
)
def test_a_bad_setting_names_argument_value_and_what_is_allowed(
    change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        RolloutConfig(**change)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_levels_cover_the_range_of_ratios() -> None:
    assert LEVELS[0] == 0
    assert LEVELS[-1] == 0.995
    assert 15 <= len(LEVELS) <= 25


def test_settings_do_not_import_torch() -> None:
    code = "import sys, ws_learner.config.rollout; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
