"""Does the agent's actor help on a network it has not seen? Leave one family out.

    python -m benchmarks.policy_transfer [--seeds 3] [--families MiniLM]

An actor without free numbers per layer learns from searches on all networks but those of one
family (ResNets; a VGG-like network; MiniLM), then meets that family:

- `transferred`: the profile that it walks there, without a rollout, beside `divergence` (whose
  curves it reads), `knapsack` and `uniform`;
- `optimal from it`: a search of 10 rollouts that begins with its profile and its weights, beside
  the same search without it and `bayesian` with 100 rollouts. MiniLM's rollouts are slow: 30 there,
  and one seed.

Profiles are scored on images that no search has seen; the mean is over seeds, and differences are
paired by seed. The same command resumes a stopped run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agents import DDPGConfig, GoalSearch, ProfilePolicy, Proposer
from benchmarks.ablation_jobs import Row, one_thread_each, run_jobs
from benchmarks.paired_differences import paired_differences
from benchmarks.search_tasks import TaskName, load_search_task
from benchmarks.transfer_networks import FAMILIES, NETWORKS, Network, lessons, network, searched
from envs import AllocationProblem, IntArray
from ws_learner.config import WeightSparseConfig
from ws_learner.core import write_text
from ws_learner.search import build_proposer, seed_profiles

__all__ = ["Options", "main"]

_UPDATES = 40


@dataclass(frozen=True, kw_only=True)
class Options:
    """Transfer of the actor.

    Attributes:
        families: Families that are left out, each by turns.
        seeds: Of search images, searches and actors.
        rounds: Times that the actor learns from each of these networks, 40 steps each.
        adapted: Rollouts on the network that was left out.
        workers: Processes, one thread each.
        out: Folder of the tables.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: int = 3
    rounds: int = 30
    adapted: int = 10
    workers: int = 1
    out: Path = Path("runs/policy_transfer")


@dataclass(frozen=True, kw_only=True)
class TransferJob:
    """One family left out, one seed."""

    family: str
    seed: int
    options: Options

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.family}, {self.seed}"


def main(options: Options) -> None:
    """Measure and report."""
    one_thread_each()
    for name in NETWORKS:
        load_search_task(name)  # a first download or fine-tuning
    jobs = [
        TransferJob(family=family, seed=seed, options=options)
        for family in options.families
        for seed in range(min(options.seeds, *(NETWORKS[n].seeds for n in FAMILIES[family])))
    ]
    table = options.out / "transfer.csv"
    rows = run_jobs(transfer_rows, jobs, table=table, workers=options.workers)
    named = rows.rename(columns={"entrant": "name"})
    for left_out, found in named.groupby("network"):
        shown = paired_differences(found, "select", reference="transferred")
        write_text(options.out / f"{left_out}.csv", shown.to_csv(index=False, float_format="%.5f"))
        print(f"\n{left_out}, from other families:\n\n{shown.to_string(index=False)}", flush=True)


def transfer_rows(job: TransferJob) -> list[Row]:
    """Learn from the other families; a row for each profile on the networks left out."""
    actor = taught(job)
    rows: list[Row] = []
    for name in FAMILIES[job.family]:
        for target in NETWORKS[name].targets:
            found = network(name, job.seed)
            for entrant, zeros, rollouts in _profiles(job, found, target, actor):
                row: Row = {"network": name, "entrant": entrant, "target": target}
                row |= {"seed": job.seed, "rollouts": rollouts, "select": found.select(zeros)}
                rows.append(row | {"zeros": " ".join(map(str, zeros.tolist()))})
    return rows


def taught(job: TransferJob) -> dict[str, Tensor]:
    """The weights of an actor that has learned from the networks of all other families."""
    options = job.options
    names = [n for family, names in FAMILIES.items() if family != job.family for n in names]
    policies = [_pupil(name, job) for name in names]
    torch.manual_seed(job.seed)
    actor = policies[0].actor_state()
    for _ in range(options.rounds):
        for policy in policies:
            policy.load_actor(actor)
            policy.learn(_UPDATES)
            actor = policy.actor_state()
    return actor


def _pupil(name: TaskName, job: TransferJob) -> ProfilePolicy:
    found = network(name, min(job.seed, NETWORKS[name].seeds - 1))
    policy = found.policy()
    for rollout in lessons(found, out=job.options.out):
        policy.observe(rollout.zeros, rollout.score)
    return policy


def _profiles(
    job: TransferJob, found: Network, target: float, actor: dict[str, Tensor]
) -> Iterator[tuple[str, IntArray, int]]:
    """Entrant, profile and rollouts of everything that is compared at one target."""
    policy = found.policy()
    policy.load_actor(actor)
    walked = policy.walk(target)
    yield "transferred", walked, 0
    for protocol in ("divergence", "knapsack", "uniform"):
        yield protocol, found.protocol(protocol, target), 0
    folder = job.options.out / "searches"
    for attempt in _attempts(job, found, target, actor, walked):
        history = searched(
            found,
            attempt.proposer,
            problem=attempt.problem,
            seeds=attempt.seeds,
            rollouts=attempt.rollouts,
            folder=folder / f"{attempt.name}-{job.family}-{target:g}-{job.seed}",
        )
        best = max(history, key=lambda rollout: rollout.score.reward)
        yield attempt.name, best.zeros, attempt.rollouts


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    name: str
    problem: AllocationProblem
    proposer: Proposer
    seeds: Mapping[str, IntArray]
    rollouts: int


def _attempts(
    job: TransferJob, found: Network, target: float, actor: dict[str, Tensor], walked: IntArray
) -> Iterator[_Attempt]:
    """Searches on the network that was left out."""
    problem, few, many = found.at(target), job.options.adapted, NETWORKS[found.name].rival
    prior = {"divergence": problem.prior}
    for name, state in (("optimal from it", actor), ("optimal", None)):
        yield _Attempt(
            name=f"{name}, {few} rollouts",
            problem=problem,
            proposer=GoalSearch(
                problem, seed=job.seed, rollouts=few, actor_state=state, transferable=True
            ),
            seeds={"transferred": walked} | prior if state else prior,
            rollouts=few,
        )
    plain = found.without_slopes(target)
    aimed = WeightSparseConfig(
        ws_prune_ratio=target, ws_prune_ratio_prtl="bayesian", ws_nb_rlouts=many
    )
    yield _Attempt(
        name=f"bayesian, {many} rollouts",
        problem=plain,
        proposer=build_proposer(plain, aimed, agent=DDPGConfig(), seed=job.seed),
        seeds=seed_profiles(found.context(target)),
        rollouts=many,
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
