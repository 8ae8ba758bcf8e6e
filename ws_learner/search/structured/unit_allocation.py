"""How many units each set keeps: the least summed error within a budget.

A layer costs as much as its inputs and outputs together let it, and they belong to two sets. So
the cost of a set is linearised at the present state of the others, the multiple-choice knapsack is
solved, and the same again at the new state. The best state within the budget is improved by moves
of one and of two sets, by their true costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from envs import FloatArray, IntArray
from ws_learner.core import UserError
from ws_learner.search.knapsack_solver import solve_knapsack

__all__ = ["allocate_units", "linear_costs"]

_PASSES = 12
_TICKS = 1 << 13
_SLACK = 0.02  # two sets of one layer save less together than by themselves
_TRIED = 256

Total = Callable[[Sequence[int]], float]


def allocate_units(
    levels: Sequence[Sequence[int]],
    errors: Sequence[FloatArray],
    total: Total,
    *,
    budget: float,
) -> tuple[int, ...]:
    """Choose how many units each of S sets keeps.

    Args:
        levels: For each set, ascending numbers of units that it may keep; the last is all.
        errors: For each set, the error at each of its levels.
        total: Cost of the network, by the units that each set keeps.
        budget: Most cost; never exceeded.

    Returns:
        The units that each set keeps. Not always the optimum, which is NP-hard to find; exact, up
        to 1/8192 of the range of costs, where the sets' costs do not depend on each other.

    Raises:
        UserError: No state that could be found is within the budget.
    """
    allocation = _Allocation(levels, errors, total, budget)
    full = np.array([len(own) - 1 for own in levels])
    least = allocation.cheapest()
    if allocation.cost(least) > budget:
        raise UserError(
            f"`budget` {budget:.6g}: the smallest network that keeps a unit everywhere costs "
            f"{allocation.cost(least):.6g}; give at least that, or fewer sets"
        )
    state, seen = full, set()
    for _ in range(_PASSES):
        found = allocation.linear_step(state)
        allocation.offer(allocation.repaired(found))
        if tuple(found) in seen:
            break
        seen.add(tuple(found))
        # Halfway: from one state to the other the linear costs are far off.
        state = found if allocation.cost(found) <= budget else (found + state + 1) // 2
        state = state if tuple(state) not in seen else found
    best = allocation.improved()
    return allocation.kept(best)


def linear_costs(
    levels: Sequence[Sequence[int]], total: Total, kept: Sequence[int]
) -> list[FloatArray]:
    """For each set, the change of the cost at each of its levels while the others stay."""
    now = total(kept)
    found = []
    for place, own in enumerate(levels):
        tried = [list(kept) for _ in own]
        for state, count in zip(tried, own, strict=True):
            state[place] = count
        found.append(np.array([total(state) - now for state in tried]))
    return found


class _Allocation:
    def __init__(
        self,
        levels: Sequence[Sequence[int]],
        errors: Sequence[FloatArray],
        total: Total,
        budget: float,
    ) -> None:
        self._levels, self._errors = levels, [np.asarray(e, dtype=np.float64) for e in errors]
        self._total, self._budget = total, budget
        self._costs: dict[tuple[int, ...], float] = {}
        self._best: tuple[float, float, tuple[int, ...]] | None = None

    def kept(self, state: Sequence[int] | IntArray) -> tuple[int, ...]:
        """Units kept in a state, which has the place of each set's level."""
        pairs = zip(self._levels, state, strict=True)
        return tuple(int(own[int(place)]) for own, place in pairs)

    def cost(self, state: Sequence[int] | IntArray) -> float:
        """True cost of a state."""
        key = tuple(int(place) for place in state)
        if key not in self._costs:
            self._costs[key] = float(self._total(self.kept(key)))
        return self._costs[key]

    def error(self, state: Sequence[int] | IntArray) -> float:
        """Summed error of a state."""
        return sum(float(e[int(place)]) for e, place in zip(self._errors, state, strict=True))

    def offer(self, state: IntArray | None) -> None:
        """Remember a state if it is within the budget and better than the best."""
        if state is None or self.cost(state) > self._budget:
            return
        found = (self.error(state), self.cost(state), tuple(int(place) for place in state))
        if self._best is None or found < self._best:
            self._best = found

    def cheapest(self) -> IntArray:
        """The state of least cost that lowering single sets reaches from the smallest levels."""
        state = np.zeros(len(self._levels), dtype=np.int64)
        while True:
            options = [(self.cost(s), tuple(s)) for s in self._single(state)]
            best = min(options, default=(np.inf, ()))
            if best[0] >= self.cost(state):
                return state
            state = np.array(best[1])

    def linear_step(self, state: IntArray) -> IntArray:
        """The state of least error by the costs linearised at `state`."""
        kept = self.kept(state)
        changes = linear_costs(self._levels, self._total, kept)
        room = self._budget - self.cost(state)
        spans = [float(change.max() - change.min()) for change in changes]
        tick = max(sum(spans) / _TICKS, 1e-12)
        choices, prices, places = [], [], []
        for change, error in zip(changes, self._errors, strict=True):
            saved = np.floor((change.max() - change) / tick + 1e-9).astype(np.int64)
            order = np.lexsort((error, saved))
            order = order[np.unique(saved[order], return_index=True)[1]]
            choices.append(saved[order])
            prices.append(error[order])
            places.append(order)
        wanted = int(np.ceil((sum(float(c.max()) for c in changes) - room) / tick - 1e-9))
        most = sum(int(own[-1]) for own in choices)
        counts = solve_knapsack(choices, prices, budget=min(max(wanted, 0), most), cells=_TICKS)
        picked = [
            int(order[int(np.searchsorted(own, count))])
            for own, order, count in zip(choices, places, counts, strict=True)
        ]
        return np.array(picked, dtype=np.int64)

    def repaired(self, state: IntArray) -> IntArray | None:
        """The state made cheaper, set by set, by the least error for what is saved."""
        state = state.copy()
        while (now := self.cost(state)) > self._budget:
            best: tuple[float, tuple[int, ...]] | None = None
            for other in self._single(state):
                saved = min(now - self.cost(other), now - self._budget)
                if saved > 1e-12 * max(now, 1.0):
                    rate = (self.error(other) - self.error(state)) / saved
                    if best is None or (rate, tuple(other)) < best:
                        best = (rate, tuple(other))
            if best is None:
                return None
            state = np.array(best[1])
        return state

    def improved(self) -> IntArray:
        """The best state after moves of one or two sets, as long as they lower the error."""
        if self._best is None:
            self.offer(self.cheapest())
        while True:
            assert self._best is not None
            before = self._best
            for state in self._moves(np.array(before[2])):
                self.offer(state)
                if self._best != before:
                    break
            else:
                return np.array(before[2])

    def _moves(self, state: IntArray) -> Iterator[IntArray]:
        """Better states that may fit by the linear costs, the one of least error first."""
        changes = linear_costs(self._levels, self._total, self.kept(state))
        place = np.repeat(np.arange(len(state)), [len(own) for own in self._levels])
        level = np.concatenate([np.arange(len(own)) for own in self._levels])
        cost = np.concatenate(changes)
        error = np.concatenate([e - e[now] for e, now in zip(self._errors, state, strict=True)])
        pairs = error[:, None] + error
        costs = cost[:, None] + cost
        # The level a set has now stands for no change, so that single moves are pairs, too.
        room = self._budget - self.cost(state) + _SLACK * abs(self._budget)
        fits = (place[:, None] < place) & (pairs < -1e-12) & (costs <= room)
        one, other = np.nonzero(fits)
        for index in np.argsort(pairs[one, other], kind="stable")[:_TRIED]:
            moved = state.copy()
            for move in (one[index], other[index]):
                moved[place[move]] = level[move]
            yield moved

    def _single(self, state: IntArray) -> list[IntArray]:
        """All states that differ in one set."""
        found = []
        for place, own in enumerate(self._levels):
            for level in range(len(own)):
                if level != int(state[place]):
                    other = state.copy()
                    other[place] = level
                    found.append(other)
        return found
