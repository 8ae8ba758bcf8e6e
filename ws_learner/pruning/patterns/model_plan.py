"""Many layers under patterns: feasible profiles, shared scores, masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ws_learner.core import check_settings
from ws_learner.pruning.patterns.group_base import PoolName
from ws_learner.pruning.patterns.pattern import Pattern
from ws_learner.pruning.patterns.scope import ScorePool as UnitPool
from ws_learner.pruning.patterns.scope import global_zeros
from ws_learner.pruning.patterns.unit_counts import Side

__all__ = ["Limits", "PatternPlan"]

Limits = Mapping[str, tuple[int, int]]
"""Layer -> its least and most zeros."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatternPlan:
    """The pattern of each layer, and the groups of layers that share pruned units.

    Attributes:
        patterns: Pattern of each layer, by parameter name.
        shapes: Shape of each weight.
        groups: Sets of layers that lose the same units, such as the projections of one
            attention; all their units are of one size within a layer. Others stand alone.
        pool: How scores are pooled over a unit.
    """

    patterns: Mapping[str, Pattern]
    shapes: Mapping[str, tuple[int, ...]]
    groups: tuple[tuple[str, ...], ...] = ()
    pool: PoolName = "mean"
    _teams: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self)
        grouped = {name for group in self.groups for name in group}
        alone = tuple((name,) for name in self.patterns if name not in grouped)
        object.__setattr__(self, "_teams", (*self.groups, *alone))

    @property
    def teams(self) -> tuple[tuple[str, ...], ...]:
        """The groups, and each other layer by itself."""
        return self._teams

    def most(self, name: str) -> int:
        """Most zeros that the layer's pattern can make."""
        shape = self.shapes[name]
        return self.patterns[name].feasible(shape, _size(shape))

    def least(self) -> int:
        """Fewest zeros above 0 that whole units can make; 0 if they can make none."""
        counts = [self._team_count(team, 1, "up") for team in self._teams]
        return min((count for count in counts if count), default=0)

    def limited(self, limits: Limits) -> dict[str, tuple[int, int]]:
        """Least and most zeros in whole units: the lower bounds go up, the upper ones down.

        Layers that share their units get the bounds that hold for all of them.

        Args:
            limits: Layer -> least and most zeros; layers left out have no bounds of their own.

        Returns:
            The same for these layers and those that share units with them. Where no whole unit
            lies between the two, the least exceeds the most.
        """
        found: dict[str, tuple[int, int]] = {}
        for team in self._teams:
            if not any(name in limits for name in team):
                continue
            if len(team) == 1:
                low, high = limits[team[0]]
                up, down = (self._team_count(team, low, "up"), self._team_count(team, high, "down"))
                found[team[0]] = (up if up >= low else low, down)
                continue
            sizes = {name: self._unit((name,))[0] for name in team}
            units = self._unit(team)[1]
            own = {name: limits.get(name, (0, units * sizes[name])) for name in team}
            low = max(-(-own[name][0] // sizes[name]) for name in team)
            high = min(*(own[name][1] // sizes[name] for name in team), units)
            found |= {name: (low * sizes[name], high * sizes[name]) for name in team}
        return found

    def nearby(self, name: str, zeros: int) -> tuple[int, int]:
        """The feasible counts of a layer below and above a count."""
        team = (name,)
        return self._team_count(team, zeros, "down"), self._team_count(team, zeros, "up")

    def team_nearby(self, team: tuple[str, ...], zeros: int) -> tuple[int, int]:
        """The feasible counts of all layers of a team together, below and above a count."""
        return self._team_count(team, zeros, "down"), self._team_count(team, zeros, "up")

    def divided(self, team: tuple[str, ...], zeros: int) -> dict[str, int]:
        """The zeros of each layer of a team, of a feasible count of all together."""
        return self._divide(team, zeros)

    def snap(self, zeros: Mapping[str, int], *, limits: Limits | None = None) -> dict[str, int]:
        """The feasible counts next to `zeros`, with a sum as near to theirs as single units allow.

        Counts are rounded down to whole units, the largest remainders are rounded up while the
        sum allows, then single units are added or taken while that brings the sum nearer. A layer
        at 0 stays at 0. Feasible counts come back as they are. A group's count lies within one of
        its own units of what its members ask for together, whatever other layers need.

        Args:
            zeros: Layer -> zeros, within the limits.
            limits: Least and most zeros of some layers, as `limited` gives them.
        """
        teams = [team for team in self._teams if any(zeros.get(name, 0) for name in team)]
        wanted = [sum(zeros.get(name, 0) for name in team) for team in teams]
        counts = [self._team_count(t, w, "down") for t, w in zip(teams, wanted, strict=True)]
        gap = sum(wanted) - sum(counts)
        by_remainder = sorted(range(len(teams)), key=lambda i: counts[i] - wanted[i])
        for index in by_remainder:
            above = self._team_count(teams[index], counts[index] + 1, "up")
            if counts[index] < wanted[index] and 0 < above - counts[index] <= gap:
                gap -= above - counts[index]
                counts[index] = above
        self._finish(teams, counts, wanted, limits or {})
        snapped = dict.fromkeys(zeros, 0)
        for team, count in zip(teams, counts, strict=True):
            snapped |= self._divide(team, count)
        return snapped

    def _finish(
        self,
        teams: Sequence[tuple[str, ...]],
        counts: list[int],
        wanted: Sequence[int],
        limits: Limits,
    ) -> None:
        """Move single units while the sum comes nearer; of equal moves the layer most in need."""
        spans = [_span(team, limits) for team in teams]
        while gap := sum(wanted) - sum(counts):
            moves = [
                self._move(team, count, gap, want)
                for team, count, want in zip(teams, counts, wanted, strict=True)
            ]
            moves = [
                move if low <= count + move <= high else 0
                for move, count, (low, high) in zip(moves, counts, spans, strict=True)
            ]
            best = min(
                range(len(teams)),
                key=lambda i: (abs(gap - moves[i]), abs(counts[i] + moves[i] - wanted[i])),
            )
            if abs(gap - moves[best]) >= abs(gap):
                return
            counts[best] += moves[best]

    def _move(self, team: tuple[str, ...], count: int, gap: int, wanted: int) -> int:
        """What one unit more, or one less where the gap is negative, changes."""
        if len(team) > 1 and (wanted - count) * gap <= 0:  # heads never make up for neurons
            return 0
        if gap > 0:
            return self._team_count(team, count + 1, "up") - count
        return self._team_count(team, max(count - 1, 0), "down") - count

    def _team_count(self, team: tuple[str, ...], zeros: int, side: Side) -> int:
        if len(team) == 1:
            (name,) = team
            return self.patterns[name].feasible(self.shapes[name], zeros, side=side)
        size, units = self._unit(team)
        count = zeros // size if side == "down" else -(-zeros // size)
        return min(max(count, 0), units) * size

    def _unit(self, team: tuple[str, ...]) -> tuple[int, int]:
        """Weights in a unit of all layers of a team together, and the number of units."""
        classes = [self.patterns[name].classes(self.shapes[name]) for name in team]
        return sum(kinds[0][0] for kinds in classes), classes[0][0][1]

    def _divide(self, team: tuple[str, ...], zeros: int) -> dict[str, int]:
        if len(team) == 1:
            return {team[0]: zeros}
        units = zeros // self._unit(team)[0]
        return {name: units * self._unit((name,))[0] for name in team}

    def shared(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scores where layers of a group have their units' mean over the group, all over a unit."""
        result = dict(scores)
        for group in self.groups:
            members = [name for name in group if name in scores]
            if not members:
                continue
            pooled = [self.patterns[name].pooled(scores[name], self.pool) for name in members]
            mean = torch.stack([unit.to(pooled[0].dtype) for unit in pooled]).mean(0)
            for name in members:
                result[name] = self.patterns[name].spread(mean, self.shapes[name])
        return result

    def masks(self, scores: Mapping[str, Tensor], zeros: Mapping[str, int]) -> dict[str, Tensor]:
        """Mask of each layer in `zeros`, from the scores of single weights.

        Raises:
            ValueError: A count is not feasible, or a score is NaN; the text names the layer.
        """
        scores, masks = self.shared(scores), {}
        for name, count in zeros.items():
            try:
                masks[name] = self.patterns[name].mask(scores[name], count, pool=self.pool)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return masks

    def spread_globally(
        self,
        scores: Mapping[str, Tensor],
        total: int,
        *,
        least: float,
        most: float,
        limits: Limits | None = None,
    ) -> dict[str, int]:
        """Zeros of each layer if the smallest units of the whole network go.

        Args:
            scores: Of single weights; compared between layers as they are.
            total: Zeros of all layers together.
            least: Least ratio of a layer; no more than the ratio over all layers is asked for.
            most: Largest ratio of a layer; no less than the ratio over all layers.
            limits: Least and most zeros of single layers, in place of the two.

        Returns:
            Feasible counts; their sum is `total` if units within the bounds can make it, else the
            nearest that was found.
        """
        shared = self.shared(scores)
        overall = total / sum(_size(self.shapes[name]) for name in self.patterns)
        low, high = min(least, overall), max(most, overall)
        pools = [self._pool(team, shared[team[0]], low, high, limits or {}) for team in self._teams]
        zeros: dict[str, int] = {}
        for team, count in zip(self._teams, global_zeros(pools, total), strict=True):
            zeros |= self._divide(team, count)
        return zeros

    def _pool(
        self, team: tuple[str, ...], score: Tensor, least: float, most: float, limits: Limits
    ) -> UnitPool:
        name = team[0]
        pattern, shape = self.patterns[name], self.shapes[name]
        pooled = pattern.pooled(score, self.pool).cpu()
        scores = (pooled if pooled.dtype == torch.float32 else pooled.double()).numpy()
        weights, top = self._weights(team), sum(self.most(name) for name in team)
        classes = pattern.classes(shape)
        alike = len(classes) == 1 and classes[0][1] == len(scores)
        lower = self._team_count(team, math.floor(least * weights), "down")
        upper = self._team_count(team, math.ceil(most * weights), "up")
        if any(name in limits for name in team):
            low, high = _span(team, limits)
            lower, upper = self._team_count(team, int(low), "down"), int(min(high, top))
        return UnitPool(
            scores=scores,
            sizes=self._unit(team)[0] if alike else pattern.sizes(shape).numpy(),
            lower=min(lower, top),
            upper=min(upper, top),
        )

    def _weights(self, team: tuple[str, ...]) -> int:
        return sum(_size(self.shapes[name]) for name in team)


def _span(team: Sequence[str], limits: Limits) -> tuple[float, float]:
    """Least and most zeros of a team together."""
    low = sum(limits[name][0] if name in limits else 0 for name in team)
    high = sum(limits[name][1] if name in limits else math.inf for name in team)
    return low, high


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
