"""Budgets as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from ws_learner.config import AUTO_PATTERNS, WeightSparseConfig, parse_budgets, parse_goals
from ws_learner.core import UserError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("macs=0.3", [("macs", 0.3, True)]),
        ("MACs = 30%", [("macs", 0.3, True)]),
        ("macs=12M", [("macs", 12e6, False)]),
        ("params=50k", [("params", 50e3, False)]),
        ("params=50000", [("params", 50e3, False)]),
        ("bytes=1.5MiB", [("bytes", 1.5 * 2**20, False)]),
        ("latency=500us@torch", [("latency@torch", 0.5, False)]),
        ("latency=0.4", [("latency@wsr", 0.4, True)]),
        ("latency@wsr=3ms", [("latency@wsr", 3.0, False)]),
        (
            "latency=8ms@onnxruntime,bytes=2MB",
            [("latency@onnxruntime", 8.0, False), ("bytes", 2e6, False)],
        ),
    ],
)
def test_a_budget_is_read(text: str, read: list[tuple[str, float, bool]]) -> None:
    found = parse_budgets(text)
    assert [(one.unit, pytest.approx(one.amount), one.share) for one in found] == read
    assert parse_budgets(",".join(map(str, found))) == found


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("0.3", "unknown unit"),
        ("mac=0.3", "did you mean macs"),
        ("macs=-1", "give macs="),
        ("macs=0", "above 0"),
        ("bytes=2", "such as bytes=2kB"),
        ("latency=8ms", "such as latency=8ms@wsr"),
        ("latency=8ms@tensorrt", "Allowed: onnxruntime"),
        ("macs=0.3@wsr", "only a latency has an engine"),
        ("macs=0.3,macs=0.2", "names macs twice"),
        ("params=120%", "a share at most 1"),
        ("", "such as macs=0.3"),
    ],
)
def test_what_is_no_budget_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy) as caught:
        parse_budgets(text)
    assert str(caught.value).startswith("`ws_budget`")


def test_a_range_of_goals_is_read_and_refused() -> None:
    assert parse_goals("macs=0.1:0.6") == ("macs", 0.1, 0.6)
    for wrong in ("macs=0.6:0.1", "macs=0.1", "latency=0.1:0.5", "macs=1M:2M", "foo=0.1:0.2"):
        with pytest.raises(UserError, match="`ws_goals`"):
            parse_goals(wrong)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"ws_prune_ratio": 0.5}, "takes the place of `ws_prune_ratio`"),
        ({"ws_ratios": {"fc": 0.5}}, "does not go with `ws_ratios`"),
        ({"ws_pattern": "2:4"}, "sets every ratio; take auto"),
        ({"ws_pattern": "auto", "ws_prune_ratio_prtl": "erk"}, "cannot choose among patterns"),
        ({"ws_pattern": "auto,4x1"}, "`ws_pattern` auto,4x1: `auto` stands alone; it is unstr"),
        ({"ws_pattern": "auto", "ws_goals": "macs=0.1:0.5"}, "one pattern"),
        ({"ws_goals": "bytes=0.1:0.5"}, "shares of one unit"),
        ({"ws_budget": "latency=2ms@torch", "ws_pattern": "4x1"}, "torch gains nothing"),
        ({"ws_budget": "latency=2ms@torch,latency=1ms@wsr"}, "name one engine"),
        ({"ws_budget": "latency=2ms@onnxruntime", "ws_dtype": "int8"}, "only fp32"),
        ({"ws_scope": "global"}, "needs `ws_scope` local"),
        ({"ws_reward_type": "multi-obj"}, "needs `ws_reward_type` single-obj"),
    ],
)
def test_settings_that_do_not_go_with_a_budget(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        WeightSparseConfig(**{"ws_budget": "macs=0.3"} | settings)


def test_a_joint_choice_needs_a_budget() -> None:
    for alone in ({"ws_pattern": "auto"}, {"ws_pattern": "4x1,4x4"}, {"ws_dtype": "int8"}):
        with pytest.raises(UserError, match="needs `ws_budget`"):
            WeightSparseConfig(**alone)  # type: ignore[arg-type]


def test_patterns_among_which_a_layer_chooses() -> None:
    ours = {"ws_budget": "latency=0.4@wsr"}
    assert WeightSparseConfig(**ours).pattern_choices == AUTO_PATTERNS  # type: ignore[arg-type]
    named = WeightSparseConfig(ws_budget="latency=0.4@wsr", ws_pattern="4x1, 1x1")
    assert named.pattern_choices == ("4x1", "unstructured")
    assert WeightSparseConfig(ws_budget="macs=0.3").pattern_choices == ("unstructured",)
    single = WeightSparseConfig(ws_budget="latency=0.4@wsr", ws_prune_ratio_prtl="uniform")
    assert not single.chooses
