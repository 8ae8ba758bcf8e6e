"""Which settings of the learner give way to which, where they were left at their defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ws_learner.core import UnsetRule

__all__ = ["learner_rules"]


def learner_rules(values: Mapping[str, Any]) -> Iterator[UnsetRule]:
    """Settings that do not go together; the target and the length of the training never give way.

    Args:
        values: Every setting of `WeightSparseConfig`.
    """
    most, least = values["ws_nb_rlouts"], values["ws_nb_rlouts_min"]
    if least > most >= 1:
        yield "ws_nb_rlouts_min", max(1, most // 2), "ws_nb_rlouts"
        yield "ws_nb_rlouts", 2 * least, "ws_nb_rlouts_min"
    begin, end = values["ws_iter_ratio_beg"], values["ws_iter_ratio_end"]
    if 1 > begin >= end > 0:
        yield "ws_iter_ratio_end", round((1 + begin) / 2, 6), "ws_iter_ratio_beg"
        yield "ws_iter_ratio_beg", round(end / 5, 6), "ws_iter_ratio_end"
    bounded = values["ws_ratio_bounds"] != "pocketflow" and values["ws_prune_ratio_prtl"] != "given"
    if bounded and 1 > values["ws_prune_ratio"] > values["ws_ratio_max"]:
        yield "ws_ratio_max", 1.0, "ws_prune_ratio"
    elif 1 >= values["ws_ratio_min"] > values["ws_ratio_max"]:
        yield "ws_ratio_max", 1.0, "ws_ratio_min"
