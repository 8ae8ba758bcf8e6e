"""The search loop shared by all proposers: closed-form profiles first, then rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from agents import SEED, Proposal, Proposer
from envs import AllocationProblem, IntArray, LayerRow
from ws_learner.core import STATE_REMEDY, as_path, reading, track, write_text
from ws_learner.search.failures import FIRST, count_failed, refuse_failures
from ws_learner.search.history import Rollout, best, frame
from ws_learner.search.new_profiles import new_profiles
from ws_learner.search.saved_search import SavedSearch, load_search, save_search
from ws_learner.search.stopping import Stop, rounds_without_gain, say_stop

__all__ = ["Search"]


@dataclass(kw_only=True)
class Search:
    """Scores a proposer's profiles until the rollouts are used up, or nothing rises any more.

    The closed-form profiles are scored first and count as rollouts. Each round then requests up to
    `per_round` profiles and scores them together. A profile that is known already is not scored
    again: a near neighbour takes its place (`new_profiles`). Without any new profile the search
    ends. The result depends on the problem, the proposer and these settings, but neither on the
    number of processes nor on interruptions: the state is saved after each round. Only `seconds`
    makes it depend on the machine's speed.

    A proposer may also propose profiles of other budgets than the problem's. They are kept in the
    history, but best, patience and `at_target` leave them out.

    Failed rollouts count, and proposers ignore them. If the first `FIRST` or more all fail, the
    search stops; another call then starts it anew.

    Attributes:
        problem: The allocation problem.
        proposer: The proposer of profiles.
        seeds: Closed-form profiles by name, most promising first; duplicates are scored once.
        rollouts: Number of rollouts in total.
        per_round: Number of profiles per round.
        state: State file for resuming.
        table: Path of `rollouts.csv`.
        metric: Name of the metric, for the progress bar.
        rewarded: What the reward measures; a search goes on only with the same reward.
        seed: Seed of the neighbours that take the place of known profiles.
        patience: Rounds after which the search ends if the best reward did not rise; 0: never.
        seconds: No round starts once the search, all calls together, has taken this long.
        budgets: Numbers of zeros that meet the target; None: the problem's budget.
        in_units: What is scored of a profile, as patterns round it to whole units.
        shown: The zeros that the table shows of a profile in other units, and the table's layers.
        clock: Seconds from any start.
        stopped: Why the search ended (`Stop`); None before.
    """

    problem: AllocationProblem
    proposer: Proposer
    seeds: Mapping[str, IntArray]
    rollouts: int
    per_round: int
    state: Path
    table: Path
    metric: str = "accuracy"
    rewarded: str = ""
    seed: int = 0
    patience: int = 0
    seconds: float | None = None
    budgets: Collection[int] | None = None
    in_units: Callable[[IntArray], IntArray] | None = None
    shown: tuple[Callable[[IntArray], IntArray], tuple[LayerRow, ...]] | None = None
    clock: Callable[[], float] = time.monotonic
    stopped: str | None = field(default=None, init=False)
    history: list[Rollout] = field(default_factory=list, init=False)
    _rounds: list[int] = field(default_factory=list, init=False)  # lengths of the history
    _known: set[bytes] = field(default_factory=set, init=False)
    _spent: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.state, self.table = as_path(self.state, name="state"), as_path(self.table)

    def run(self) -> list[Rollout]:
        """Run the search to its end, resuming an earlier call.

        Raises:
            UserError: All rollouts failed, the first ones or all there are; or the earlier call had
                another reward.
        """
        self._resume()
        begun = self.clock() - self._spent
        done = len(self.history)
        with track("search", total=self.rollouts, done=done, phase="search") as progress:
            while (stopped := self._why_stop()) is None:
                proposals = self._propose()
                if not proposals:
                    stopped = "exhausted"
                    break
                self._score(proposals)
                self._stop_without_score()
                self._spent = self.clock() - begun
                self._save()
                progress.advance(len(proposals), note=self._note(), values=self._values())
        self.stopped = stopped
        counts = {"done": len(self.history), "rollouts": self.rollouts}
        say_stop(stopped, patience=self.patience, **counts)
        return self.history

    def at_target(self) -> list[Rollout]:
        """The rollouts that meet the problem's target, in order; all if its total is free."""
        return self._at_target(self.history)

    def _at_target(self, rollouts: list[Rollout]) -> list[Rollout]:
        if not self.problem.exact:
            return list(rollouts)
        budgets = self.budgets or {self.problem.budget}
        return [rollout for rollout in rollouts if int(rollout.zeros.sum()) in budgets]

    def _why_stop(self) -> Stop | None:
        if len(self.history) >= self.rollouts:
            return "rollouts"
        rounds = [self._at_target(self.history[a:b]) for a, b in pairwise([0, *self._rounds])]
        if self.patience and rounds_without_gain(rounds) >= self.patience:
            return "patience"
        over = self.seconds is not None and self._spent >= self.seconds
        return "time" if over else None

    def _stop_without_score(self) -> None:
        failed = count_failed(self.history) == len(self.history)
        if failed and len(self.history) >= min(FIRST, self.rollouts):
            self._write_table()  # says why; the state is not worth keeping
            refuse_failures(self.history, self.problem.layers, split="search")

    def _note(self) -> str:
        failed, found = count_failed(self.history), self.at_target()
        if failed == len(self.history):
            return f"{failed} failed"
        if count_failed(found) == len(found):
            note = "none at the target yet"
        else:
            top = best(found).score
            note = f"best reward {top.reward:.4f} ({self.metric} {top.accuracy:.4f})"
        return f"{note}, {failed} failed" if failed else note

    def _values(self) -> dict[str, float]:
        """Reward and metric of the best rollout at the target."""
        found = self.at_target()
        if count_failed(found) == len(found):
            return {}
        top = best(found).score
        return {"reward": top.reward, self.metric: top.accuracy}

    def _propose(self) -> list[Proposal]:
        """The profiles of the next round, none of which was scored before."""
        left = self.rollouts - len(self.history)
        if not self.history:
            distinct: dict[bytes, IntArray] = {}
            for zeros in self.seeds.values():
                distinct.setdefault(self._key(zeros), zeros)
            return [Proposal(SEED, zeros) for zeros in distinct.values()][:left]
        return new_profiles(
            self.proposer.propose(self.history, min(self.per_round, left)),
            problem=self.problem,
            known=self._known,
            key=self._key,
            seed=(self.seed, len(self.history)),
        )

    def _key(self, zeros: IntArray) -> bytes:
        return (self.in_units(zeros) if self.in_units else zeros).tobytes()

    def _score(self, proposals: list[Proposal]) -> None:
        scores = self.problem.evaluate([proposal.zeros for proposal in proposals])
        for proposal, score in zip(proposals, scores, strict=True):
            self.history.append(Rollout(kind=proposal.kind, zeros=proposal.zeros, score=score))
        self._known.update(self._key(proposal.zeros) for proposal in proposals)
        self._rounds.append(len(self.history))

    def _save(self) -> None:
        saved = SavedSearch(
            proposer=self.proposer.state(),
            history=self.history,
            rounds=self._rounds,
            seconds=self._spent,
        )
        save_search(self.state, saved, rewarded=self.rewarded)
        self._write_table()

    def _resume(self) -> None:
        saved = load_search(self.state, rewarded=self.rewarded)
        if saved is None:
            return
        with reading(self.state, STATE_REMEDY):
            shapes = {rollout.zeros.shape for rollout in saved.history}
            if shapes - {(len(self.problem.layers),)}:
                raise ValueError(f"profiles of other than {len(self.problem.layers)} layers")
            self.proposer.restore(saved.proposer)
        self.history, self._rounds = list(saved.history), list(saved.rounds)
        self._known = {self._key(rollout.zeros) for rollout in self.history}
        self._spent = saved.seconds
        self._write_table()

    def _write_table(self) -> None:
        write_text(self.table, self.table_of(self.history))

    def table_of(self, rollouts: list[Rollout]) -> str:
        """The rollouts as CSV."""
        layers = self.problem.layers
        if self.shown is not None:
            in_weights, layers = self.shown
            rollouts = [replace(one, zeros=in_weights(one.zeros)) for one in rollouts]
        return frame(rollouts, layers).to_csv(index=False)
