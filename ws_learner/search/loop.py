"""The search loop shared by all proposers: closed-form profiles first, then rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents import SEED, Proposal, Proposer
from envs import AllocationProblem, IntArray
from ws_learner.core import UserError, load_state_file, save_state_file, say, track, write_text
from ws_learner.search.failures import FIRST, count_failed, refuse_failures
from ws_learner.search.history import Rollout, best, frame, from_plain, to_plain

__all__ = ["Search"]


@dataclass(kw_only=True)
class Search:
    """Scores a proposer's profiles until the rollouts are used up.

    The closed-form profiles are scored first and count as rollouts. Each round then requests up to
    `per_round` profiles and scores them together. The result depends on the problem, the
    proposer and these settings, but neither on the number of processes nor on interruptions: the
    state is saved after each round.

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
    history: list[Rollout] = field(default_factory=list, init=False)

    def run(self) -> list[Rollout]:
        """Run the search to its end, resuming an earlier call.

        Raises:
            UserError: All rollouts failed, the first ones or all there are; or the earlier call had
                another reward.
        """
        self._resume()
        with track("search", total=self.rollouts, done=len(self.history)) as progress:
            while len(self.history) < self.rollouts:
                before = len(self.history)
                self._round()
                self._stop_without_score()
                self._save()
                progress.advance(len(self.history) - before, note=self._note())
        return self.history

    def _stop_without_score(self) -> None:
        if len(self.history) >= min(FIRST, self.rollouts):
            self._write_table()  # says why; the state is not worth keeping
            refuse_failures(self.history, self.problem.layers, split="search")

    def _note(self) -> str:
        failed = count_failed(self.history)
        if failed == len(self.history):
            return f"{failed} failed"
        top = best(self.history).score
        note = f"best: {self.metric} {top.accuracy:.4f}, reward {top.reward:.4f}"
        return f"{note}, {failed} failed" if failed else note

    def _round(self) -> None:
        left = self.rollouts - len(self.history)
        if self.history:
            proposals = self.proposer.propose(self.history, min(self.per_round, left))
        else:
            distinct = {zeros.tobytes(): zeros for zeros in self.seeds.values()}
            proposals = [Proposal(SEED, zeros) for zeros in distinct.values()][:left]
        scores = self.problem.evaluate([proposal.zeros for proposal in proposals])
        for proposal, score in zip(proposals, scores, strict=True):
            self.history.append(Rollout(kind=proposal.kind, zeros=proposal.zeros, score=score))

    def _save(self) -> None:
        """Save proposer and history in one file, so that they always belong to the same round."""
        history = json.dumps(to_plain(self.history))
        state = {"proposer": self.proposer.state(), "history": history}
        save_state_file(self.state, state | {"rewarded": self.rewarded})
        self._write_table()

    def _resume(self) -> None:
        if not self.state.exists():
            return
        saved = load_state_file(self.state)
        before = saved.get("rewarded", "")
        if before != self.rewarded:
            usual = "as a classifier"
            raise UserError(
                f"{self.state}: this search was begun with rollouts rewarded {before or usual}, "
                f"but now they would be rewarded {self.rewarded or usual}; give another `run_dir`, "
                "or `outputs` and metric as they were"
            )
        history = from_plain(json.loads(saved["history"]))
        if history and count_failed(history) == len(history):
            say(f"all {len(history)} rollouts of the earlier call failed; the search starts anew")
            return
        self.proposer.restore(saved["proposer"])
        self.history = history
        self._write_table()

    def _write_table(self) -> None:
        write_text(self.table, frame(self.history, self.problem.layers).to_csv(index=False))
