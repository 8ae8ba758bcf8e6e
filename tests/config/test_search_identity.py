"""A run's name changes only with what changes its result; earlier runs are found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ws_learner.config import PROTOCOLS, WeightSparseConfig, as_recorded, identity_settings

LATER = {
    *("ws_patience", "ws_search_time", "ws_nb_jitters"),
    *("ws_goals", "ws_nb_smpls_slope", "ws_nb_smpls_own"),
    *("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios", "ws_keep_zeros"),
    *("ws_budget", "ws_dtype", "ws_latency_batch", "ws_latency_threads"),
}
FORMER = {"ws_nb_rescore": 8, "ws_nb_rlouts": 200, "ws_rlouts_per_round": 8}
UNSET = (
    *("ws_search_time", "ws_goals"),
    *("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios", "ws_keep_zeros"),
    *("ws_budget", "ws_dtype", "ws_latency_batch", "ws_latency_threads"),
)


def settings(**changes: Any) -> dict[str, Any]:
    return dataclasses.asdict(WeightSparseConfig(**changes))


def before(**changes: Any) -> dict[str, Any]:
    """The settings as they were before those of `LATER`."""
    kept = {name: value for name, value in settings(**changes).items() if name not in LATER}
    return kept | {name: value for name, value in FORMER.items() if name not in changes}


@pytest.mark.parametrize("protocol", ["uniform", "knapsack"])
def test_without_a_search_a_run_keeps_its_name(protocol: str) -> None:
    named = {"ws_prune_ratio_prtl": protocol, "ws_prune_ratio": 0.9}
    assert identity_settings(settings(**named)) == before(**named)
    assert identity_settings(settings(**named, ws_patience=3)) == before(**named)
    assert identity_settings(settings(), searches=False) == before()
    assert identity_settings({"seed": 0}) == {"seed": 0}  # dense training


def test_own_divergences_name_the_protocol_that_reads_them() -> None:
    named = {"ws_prune_ratio_prtl": "divergence"}
    usual = identity_settings(settings(**named))
    assert identity_settings(settings(**named, ws_nb_smpls_own=300)) != usual
    assert identity_settings(settings(**named, ws_nb_smpls_slope=300)) == usual


def test_the_record_of_every_protocol_fits_the_same_settings_again() -> None:
    for protocol in PROTOCOLS:
        given = {"ws_ratios": {"fc": 0.5}} if protocol == "given" else {}
        asked = identity_settings(settings(ws_prune_ratio_prtl=protocol, **given))
        assert as_recorded(asked, asked) == asked, protocol


def test_a_search_has_the_name_of_its_rules() -> None:
    usual = identity_settings(settings())
    assert usual == {k: v for k, v in settings().items() if k not in UNSET}
    for change in (
        {"ws_patience": 0},
        {"ws_nb_jitters": 0},
        {"ws_search_time": "10m"},
        {"ws_goals": "0.5:0.9"},
    ):
        assert identity_settings(settings(**change)) != usual


def test_a_record_of_an_earlier_version_fits_the_same_settings() -> None:
    asked = identity_settings(settings())
    assert as_recorded(asked, before()) == before()
    assert as_recorded(asked, asked) == asked
    assert as_recorded(asked, before(ws_nb_rescore=2)) != before(ws_nb_rescore=2)
    few = {"ws_nb_rescore": 2}
    assert as_recorded(identity_settings(settings(**few)), before(**few)) == before(**few)
    assert as_recorded(asked, before(ws_nb_rescore=4)) == before(ws_nb_rescore=4)
    whole = identity_settings(settings(ws_nb_rescore=8))  # as its config.yaml says
    assert as_recorded(whole, before()) == before()


@pytest.mark.parametrize("protocol", ["uniform", "optimal"])
@pytest.mark.parametrize(
    "change",
    [
        {"ws_max_ratios": {"fc": 0.5}},
        {"ws_min_ratios": {"fc": 0.5}},
        {"ws_fixed_ratios": {"fc": 0.5}},
        {"ws_keep_zeros": False},
    ],
)
def test_bounds_of_single_layers_change_the_name_only_when_set(
    protocol: str, change: dict[str, Any]
) -> None:
    usual = identity_settings(settings(ws_prune_ratio_prtl=protocol))
    set_ = identity_settings(settings(ws_prune_ratio_prtl=protocol, **change))
    assert not usual.keys() & set(UNSET)
    assert set_ == usual | change


@pytest.mark.parametrize("protocol", ["uniform", "optimal"])
def test_a_budget_and_how_it_is_measured_change_the_name(protocol: str) -> None:
    asked = {"ws_prune_ratio_prtl": protocol, "ws_budget": "latency=0.4@wsr", "ws_pattern": "4x1"}
    usual = identity_settings(settings(**asked))
    assert usual["ws_budget"] == "latency=0.4@wsr"
    for change in ({"ws_latency_batch": 8}, {"ws_latency_threads": 2}, {"ws_budget": "macs=0.4"}):
        assert identity_settings(settings(**asked | change)) != usual
    plain = {"ws_prune_ratio_prtl": protocol}
    assert identity_settings(settings(**plain, ws_latency_batch=8)) == identity_settings(
        settings(**plain)
    )
