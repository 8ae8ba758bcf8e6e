"""Python fits unset settings to the length of the training as the command line does."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from torch import nn
from torch.nn import functional

from agents import DDPGConfig
from tests.support.rollout_parts import accuracy, tiny_data, tiny_network
from ws_learner import Recipe, UserError, WeightSparseConfig, WeightSparseLearner
from ws_learner.core import chosen_settings
from ws_learner.training import fit_length


def learner(recipe: Recipe, config: WeightSparseConfig | None = None) -> WeightSparseLearner:
    network: nn.Module = tiny_network()
    parts = {"loss": functional.cross_entropy, "metric": accuracy}
    return WeightSparseLearner(network, tiny_data(), recipe=recipe, config=config, **parts)


def test_what_was_not_chosen_gives_way_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert WeightSparseConfig(ws_nb_rlouts=6).ws_nb_rlouts_min == 3
    assert WeightSparseConfig(ws_iter_ratio_beg=0.6).ws_iter_ratio_end == 0.8
    assert DDPGConfig(ddpg_noise_std_init=0.01).ddpg_noise_std_finl == 0.01
    assert "adjusted: `ws_nb_rlouts_min` 20 -> 3: `ws_nb_rlouts` is 6" in capsys.readouterr().err
    assert WeightSparseConfig().ws_nb_rlouts_min == 20
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (WeightSparseConfig, {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 20}),  # 20 is the default
        (WeightSparseConfig, {"ws_iter_ratio_beg": 0.6, "ws_iter_ratio_end": 0.5}),
        (WeightSparseConfig, {"ws_ratio_min": 0.999, "ws_ratio_max": 0.995}),
        (DDPGConfig, {"ddpg_noise_std_init": 0.2, "ddpg_noise_std_finl": 2.0}),
    ],
)
def test_what_was_chosen_may_conflict(kind: type, given: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"`({'|'.join(given)})`"):
        kind(**given)


def test_what_was_chosen_is_known_where_it_can_be() -> None:
    config = WeightSparseConfig(ws_iter_ratio_end=0.5)  # as the default, but chosen
    assert chosen_settings(config) == {"ws_iter_ratio_end"}
    assert chosen_settings(pickle.loads(pickle.dumps(config))) == {"ws_iter_ratio_end"}
    assert chosen_settings(replace(config, ws_prune_ratio=0.9)) == {"ws_prune_ratio"}
    assert config == WeightSparseConfig()


def test_an_unset_batch_and_ramp_fit_the_data() -> None:
    examples = len(tiny_data().train)
    assert learner(Recipe(nb_epochs=1, batch_size=32)).recipe.batch_size == 32
    one = learner(Recipe(nb_epochs=0.01, batch_size=examples))
    assert one.config.ws_iter_ratio_end == 1.0
    assert one.config.ws_mask_update_step is None  # the training sets it by itself
    fitted = fit_length(
        WeightSparseConfig(), Recipe(nb_epochs=1), examples=50, chosen=(), interval=True
    )
    assert fitted.recipe.batch_size == 50
    assert (fitted.config.ws_iter_ratio_end, fitted.config.ws_mask_update_step) == (1.0, 1)
    assert len(fitted.lines) == 3


def test_the_identity_of_a_run_that_fitted_before_is_the_same() -> None:
    config = WeightSparseConfig(ws_prune_ratio=0.5)
    made = learner(Recipe(nb_epochs=2, batch_size=32), config)
    assert made.config is config
    assert made.recipe == Recipe(nb_epochs=2, batch_size=32)


@pytest.mark.parametrize(
    ("recipe", "config", "line"),
    [
        (Recipe(nb_epochs=1, batch_size=9999), {}, "`batch_size` 9999: larger than"),
        (Recipe(nb_epochs=1, batch_size=32), {"ws_mask_update_step": 999}, "longer than the ramp"),
        (Recipe(nb_epochs=0.01, batch_size=32), {"ws_iter_ratio_end": 0.5}, "has no step between"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "allocate", "prune"])
def test_what_was_chosen_is_refused_by_every_call(
    recipe: Recipe, config: dict[str, float], line: str, call: str
) -> None:
    with pytest.raises(UserError, match=line):
        getattr(learner(recipe, WeightSparseConfig(**config)), call)()
