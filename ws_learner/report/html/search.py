"""The search: its figure, its proposers, its finalists, and profiles for other targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from ws_learner.report.figure_style import Margins
from ws_learner.report.frontier_section import critic_sentence
from ws_learner.report.html.limits import thinned
from ws_learner.report.html.run_files import RunFiles, text
from ws_learner.report.html.svg import drawing, legend_height
from ws_learner.report.search_figure import draw_search

__all__ = ["Finalist", "Search", "frontier_of", "search_of"]

_SELECT = "select"
_COLUMNS = 4
_MOST_DOTS, _MOST_ROWS = 2500, 40
_GOALS = ("target", "supplier", "predicted_reward", "reward", "accuracy")


@dataclass(frozen=True)
class Finalist:
    """A profile that was scored again on the select split.

    Attributes:
        rollout: Its number in the search; None if it is none of its rollouts.
        kind: Who proposed it.
        searched: Its reward on the search split.
        selected: Its mean reward on the select split; None if that failed.
        chosen: Whether it was chosen.
    """

    rollout: int | None
    kind: str
    searched: float | None
    selected: float | None
    chosen: bool


@dataclass(frozen=True)
class Search:
    """The search of a run.

    Attributes:
        figure: Reward of each rollout.
        left_out: Number of rollouts that the figure leaves out.
        kinds: Proposer, rollouts, mean and best reward.
        finalists: Best first.
        sentence: What was chosen.
        critic: How well the critic predicted; empty without.
    """

    figure: str
    left_out: int
    kinds: list[tuple[str, str, str, str]]
    finalists: list[Finalist]
    sentence: str
    critic: str


def search_of(files: RunFiles) -> Search | None:
    """The search; None without rollouts."""
    table = files.rollouts
    if table is None:
        return None
    if "failed" not in table:  # the oldest have no such column
        table = table.assign(failed="")
    chosen = files.summary.get("chosen_rollout")
    number = chosen if isinstance(chosen, int) and not isinstance(chosen, bool) else None
    matters = table["reward"].ge(table["reward"].cummax()) | table["rollout"].eq(
        -1 if number is None else number
    )
    dots = thinned(table, matters, most=_MOST_DOTS)
    draw = partial(draw_search, rollouts=dots, chosen=number, columns=_COLUMNS)
    finalists = _finalists(table, number)
    return Search(
        figure=drawing(
            draw,
            height=3.4,
            margins=Margins(left=0.72, top=legend_height(table["kind"].nunique() + 3, _COLUMNS)),
            name="search",
            label="reward of each rollout",
        ),
        left_out=len(table) - len(dots),
        kinds=_kinds(table),
        finalists=finalists,
        sentence=_sentence(table, number),
        critic=critic_sentence(files.summary).strip(),
    )


def _kinds(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    table = table[table["kind"].ne(_SELECT)]
    rewards = table["reward"].where(table["failed"].eq(""))
    return [
        (text(kind, 40), f"{len(group):,}", _reward(group.mean()), _reward(group.max()))
        for kind, group in rewards.groupby(table["kind"], sort=False)
    ][:_MOST_ROWS]


def _finalists(table: pd.DataFrame, chosen: int | None) -> list[Finalist]:
    columns = [name for name in table.columns if str(name).startswith("zeros/")]
    again = table[table["kind"].eq(_SELECT)]
    if again.empty or not columns:
        return []
    first: dict[tuple[int, ...], pd.Series] = {}
    searched = table[table["kind"].ne(_SELECT)]
    for place, key in enumerate(searched[columns].itertuples(index=False, name=None)):
        first.setdefault(key, searched.iloc[place])
    found = []
    for place, key in enumerate(again[columns].itertuples(index=False, name=None)):
        row, own = again.iloc[place], first.get(key)
        number = None if own is None else int(own["rollout"])
        found.append(
            Finalist(
                rollout=number,
                kind="" if own is None else text(own["kind"], 40),
                searched=None if own is None else _number(own["reward"]),
                selected=_number(row["reward"]) if row["failed"] == "" else None,
                chosen=number is not None and number == chosen,
            )
        )
    found.sort(key=lambda one: -(one.selected if one.selected is not None else -math.inf))
    return found[:_MOST_ROWS]


def _sentence(table: pd.DataFrame, chosen: int | None) -> str:
    searched = table[table["kind"].ne(_SELECT) & table["failed"].eq("")]
    if searched.empty:
        return "No rollout could be scored."
    best = searched.iloc[int(searched["reward"].to_numpy().argmax())]
    said = f"The best reward on the search split is {_reward(best['reward'])}, of rollout "
    said += f"{int(best['rollout'])} ({text(best['kind'], 40)})."
    row = searched[searched["rollout"].eq(chosen)] if chosen is not None else searched[:0]
    if row.empty:
        return said
    kind = text(row["kind"].iloc[0], 40)
    own = f" Chosen: rollout {chosen} ({kind}), reward {_reward(row['reward'].iloc[0])}."
    if kind == "prior":
        own += " It needed no search: it is the profile of a protocol without rollouts."
    return said + own


def frontier_of(files: RunFiles) -> Sequence[tuple[str, ...]]:
    """Rows of the profiles that the policy emits for other targets; empty without."""
    if files.frontier is None or not set(_GOALS) <= set(files.frontier.columns):
        return []
    columns = (files.frontier[name].tolist() for name in _GOALS)
    return [
        (
            f"{target:.4g}",
            text(supplier, 40),
            _reward(predicted),
            "failed" if math.isnan(reward) else _reward(reward),
            "" if math.isnan(score) else files.metric.show(score),
        )
        for target, supplier, predicted, reward, score in zip(*columns, strict=True)
    ][:_MOST_ROWS]


def _reward(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
