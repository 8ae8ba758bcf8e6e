"""How the settings of a search enter a run's identity. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ws_learner.config.registries import PROTOCOLS
from ws_learner.config.search import SearchSettings

__all__ = ["as_recorded", "identity_settings"]

_YOUNGER = (
    *("ws_patience", "ws_search_time", "ws_nb_jitters"),
    *("ws_goals", "ws_nb_smpls_slope", "ws_nb_smpls_own"),
)
_IF_SET = ("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios", "ws_keep_zeros", "ws_budget")
_OF_BUDGETS = ("ws_dtype", "ws_latency_batch", "ws_latency_threads")
_FORMER = {  # the default, and what it was
    "ws_nb_rescore": (SearchSettings.ws_nb_rescore, 8),
    "ws_nb_rlouts": (SearchSettings.ws_nb_rlouts, 200),
    "ws_rlouts_per_round": (SearchSettings.ws_rlouts_per_round, 8),
}


def identity_settings(
    settings: Mapping[str, Any], *, searches: bool | None = None
) -> dict[str, Any]:
    """The settings of a run's identity, without those that came later and change nothing.

    Runs without a search keep the names that they had before these settings existed.

    Args:
        settings: All of them by name.
        searches: Whether the run searches; None asks the protocol.
    """
    kept = {k: v for k, v in settings.items() if k not in _IF_SET or v is not None}
    if kept.get("ws_budget") is None and "=" not in (kept.get("ws_goals") or ""):
        kept = {name: value for name, value in kept.items() if name not in _OF_BUDGETS}
    if searches is None:
        protocol = PROTOCOLS.get(kept.get("ws_prune_ratio_prtl", ""))
        searches = protocol is not None and protocol.propose is not None
    if not searches:
        read = {"ws_nb_smpls_own"} if kept.get("ws_prune_ratio_prtl") == "divergence" else set()
        return _before(kept, {}) | {name: kept[name] for name in read}
    for name in ("ws_search_time", "ws_goals"):
        if kept[name] is None:
            del kept[name]
    return kept


def as_recorded(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an identity, in the words of a record that an earlier version wrote.

    Such a run is found and goes on, by today's rules if its search is not finished.

    Args:
        settings: What is asked for.
        record: What the run's folder was made with; empty: the usual settings of earlier versions.
    """
    if "ws_nb_jitters" in record:
        return dict(settings)
    read = {name: settings[name] for name in _YOUNGER if name in record and name in settings}
    return _before(settings, record) | read


def _before(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name not in _YOUNGER}
    for name, (now, then) in _FORMER.items():
        if kept.get(name) == now and record.get(name, then) == then:
            kept[name] = then
    return kept
