"""The search loop that the agent and its rivals share: cheap profiles first, then rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents import SEED, Proposal, Proposer
from envs import AllocationProblem, IntArray
from ws_learner.core import load_state_file, save_state_file, track, write_text
from ws_learner.search.history import Rollout, best, frame, from_plain, to_plain

__all__ = ["Search"]


@dataclass(kw_only=True)
class Search:
    """Scores what a proposer proposes, until the rollouts are spent.

    The cheap profiles come first and count like any other rollout. Then a round asks for up to
    `per_round` profiles and scores them together. What is found is a function of the problem, the
    proposer and these settings: not of how many processes score a round, nor of interruptions,
    since the state is saved after each.

    Attributes:
        problem: What is searched.
        proposer: Who decides what to try.
        seeds: Cheap profiles by name, most promising first; equal ones are scored once.
        rollouts: Rollouts in all.
        per_round: Profiles proposed before any of them is scored.
        state: File the search goes on from.
        table: `rollouts.csv`.
    """

    problem: AllocationProblem
    proposer: Proposer
    seeds: Mapping[str, IntArray]
    rollouts: int
    per_round: int
    state: Path
    table: Path
    history: list[Rollout] = field(default_factory=list, init=False)

    def run(self) -> list[Rollout]:
        """Search to the end, from wherever an earlier call stopped."""
        self._resume()
        with track("search", total=self.rollouts, done=len(self.history)) as progress:
            while len(self.history) < self.rollouts:
                before = len(self.history)
                self._round()
                self._save()
                top = best(self.history).score
                progress.advance(
                    len(self.history) - before,
                    note=f"best accuracy {top.accuracy:.4f}, reward {top.reward:.4f}",
                )
        return self.history

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
        """Proposer and history in one file, so that they can never be of different rounds."""
        history = json.dumps(to_plain(self.history))
        save_state_file(self.state, {"proposer": self.proposer.state(), "history": history})
        self._write_table()

    def _resume(self) -> None:
        if not self.state.exists():
            return
        saved = load_state_file(self.state)
        self.proposer.restore(saved["proposer"])
        self.history = from_plain(json.loads(saved["history"]))
        self._write_table()

    def _write_table(self) -> None:
        write_text(self.table, frame(self.history, self.problem.layers).to_csv(index=False))
