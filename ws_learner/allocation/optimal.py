"""Protocol `optimal`: the agent proposes profiles, roll-outs score them, the best one wins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.ddpg_agent import DDPGAgent, transitions
from agents.ddpg_config import DDPGConfig
from envs.action_map import ActionMap, Scale
from envs.budget import project
from envs.episode import Walk, replay, walk
from envs.features import FEATURES
from envs.problem import AllocationProblem, IntArray, Score
from ws_learner.allocation.history import Rollout, best, frame, from_plain, to_plain
from ws_learner.files import write_text
from ws_learner.progress import track
from ws_learner.state import load_state_file, save_state_file

__all__ = ["OptimalSearch"]


@dataclass(kw_only=True)
class OptimalSearch:
    """DDPG over the layers, as in PocketFlow and AMC (He et al. 2018), in rounds.

    A round proposes `per_round` profiles with the same actor, scores them together, and then
    trains. What is found is a function of the problem, the settings and the seed: not of how
    many processes score a round, nor of interruptions, since the state is saved after each.

    Attributes:
        problem: What is searched.
        priors: Cheap profiles, scored first; they teach the agent as demonstrations.
        rlouts: Roll-outs in all, the priors and the final one without exploration included.
        rlouts_min: Roll-outs of exploration around the prior before the agent is trained.
        per_round: Profiles proposed before any of them is scored.
        config: The agent's settings.
        scale: How actions map to ratios.
        seed: Of the agent.
        state: File the search goes on from.
        table: `rollouts.csv`.
    """

    problem: AllocationProblem
    priors: Mapping[str, IntArray]
    rlouts: int
    rlouts_min: int
    per_round: int
    config: DDPGConfig
    scale: Scale
    seed: int
    state: Path
    table: Path
    history: list[Rollout] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._map = ActionMap.of(self.problem, scale=self.scale)
        self._free = dataclasses.replace(self.problem, exact=False)
        self._agent = DDPGAgent(len(FEATURES), config=self.config, seed=self.seed)

    def run(self) -> list[Rollout]:
        """Search to the end, from wherever an earlier call stopped."""
        self._resume()
        with track("search", total=self.rlouts, done=len(self.history)) as progress:
            while len(self.history) < self.rlouts:
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
        kind, walks = self._propose()
        scores = self.problem.evaluate([path.zeros for path in walks])
        self._remember(kind, walks, scores)

    def _propose(self) -> tuple[str, list[Walk]]:
        if not self.history:
            return "prior", [
                replay(self.problem, self._map, zeros=zeros) for zeros in self.priors.values()
            ][: self.rlouts]
        left = self.rlouts - len(self.history)
        if left == 1:
            return "final", [self._walk(explore=False)]
        kind = "agent" if len(self.history) >= self.rlouts_min else "warm-up"
        return kind, [self._walk(explore=True) for _ in range(min(self.per_round, left - 1))]

    def _walk(self, *, explore: bool) -> Walk:
        """One profile of the agent's, brought to the budget as a whole.

        Walking under the budget would leave what the first layers over- or underspend to the last
        ones, at whatever cost; projection spreads it over all. The walk that is remembered is the
        one that leads to the projected profile.
        """
        wish = walk(
            self._free, self._map, choose=lambda seen: self._agent.act(seen, explore=explore)
        )
        problem = self.problem
        if not problem.exact:
            return wish
        zeros = project(
            wish.zeros,
            budget=problem.budget,
            lower=problem.lower,
            upper=problem.upper,
            weights=problem.weights,
        )
        return replay(problem, self._map, zeros=zeros)

    def _remember(self, kind: str, walks: Sequence[Walk], scores: Sequence[Score]) -> None:
        for path, score in zip(walks, scores, strict=True):
            self.history.append(Rollout(kind=kind, zeros=path.zeros, score=score))
            if score.failed:
                continue
            self._agent.observe(
                transitions(path.observations, path.actions, reward=score.reward),
                demonstration=kind == "prior",
            )
        if len(self.history) >= self.rlouts_min:
            self._agent.learn(self.config.ddpg_nb_updates * len(walks))

    def _save(self) -> None:
        """Agent and history in one file, so that they can never be of different rounds."""
        history = json.dumps(to_plain(self.history))
        save_state_file(self.state, {"agent": self._agent.state_bytes(), "history": history})
        self._write_table()

    def _resume(self) -> None:
        if not self.state.exists():
            return
        saved = load_state_file(self.state)
        self._agent.restore(saved["agent"])
        self.history = from_plain(json.loads(saved["history"]))
        self._write_table()

    def _write_table(self) -> None:
        write_text(self.table, frame(self.history, self.problem.layers).to_csv(index=False))
