"""Simulation of large clusters from measured costs: where the driver becomes the bottleneck.

    python -m benchmarks.cluster_model --measure     measures here, then simulates
    python -m benchmarks.cluster_model               simulates with given costs

The driver does one thing at a time: it proposes a round, hands out one candidate per worker, and
takes in results as they come. Workers take a random time for a rollout. A round ends when its
last result is in (that is what makes the search a function of its seed), so a round should be as
large as the cluster. The network's bytes go from node to node as a binary tree.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs import IntArray, Score
    from ws_learner.search import RolloutEvaluator

__all__ = ["Costs", "Options", "main", "simulate"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What things take; seconds, unless said otherwise.

    Attributes:
        rollout: Mean of a rollout on one core.
        spread: Standard deviation of a rollout, as a share of its mean.
        hand_out: Driver's time to send one candidate.
        take_in: Driver's time to receive one result.
        wait_each: Driver's time per worker it waits for, each time it waits.
        propose: Driver's time to propose one candidate, the agent's learning included.
        payload: Bytes of network, data and database.
        bandwidth: Bytes per second between two machines.
    """

    rollout: float = 1.0
    spread: float = 0.1
    hand_out: float = 4e-4
    take_in: float = 4e-4
    wait_each: float = 1e-6
    propose: float = 0.05
    payload: float = 3e7
    bandwidth: float = 1.25e8


@dataclass(frozen=True, kw_only=True)
class Options:
    """Model of a large cluster.

    Attributes:
        costs: What things take.
        measure: Measure all costs but the bandwidth on this machine.
        workers: Sizes of the cluster.
        rounds: Rounds simulated at each size.
        grown: Size of a round as a share of the workers; the default search's round of eight is
            simulated as well.
    """

    costs: Costs = Costs()
    measure: bool = False
    workers: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    rounds: int = 5
    grown: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of a simulation.

    Attributes:
        per_minute: Rollouts a minute.
        driver: Share of the time the driver was at work, in [0, 1].
        workers: The same of the mean worker.
        spread_out: Seconds until every machine had the network.
    """

    per_minute: float
    driver: float
    workers: float
    spread_out: float


def simulate(
    costs: Costs,
    *,
    workers: int,
    per_round: int,
    rounds: int,
    batched: bool = False,
    seed: int = 0,
) -> Outcome:
    """Run rounds of a search on `workers` workers.

    Args:
        costs: What things take.
        workers: How many there are.
        per_round: Candidates of a round.
        rounds: Rounds.
        batched: The driver waits once and takes in all that has arrived.
        seed: Of the rollouts' lengths.
    """
    rng = random.Random(seed)
    now = driver = busy = 0.0
    for _ in range(rounds):
        driver += costs.propose * per_round
        now += costs.propose * per_round
        left = per_round
        flying: list[float] = []  # when each rollout at work will be done
        idle = min(workers, per_round)
        while left or flying:
            while left and idle:  # hand out
                now, driver = now + costs.hand_out, driver + costs.hand_out
                length = max(0.0, rng.gauss(costs.rollout, costs.spread * costs.rollout))
                heapq.heappush(flying, now + length)
                left, idle, busy = left - 1, idle - 1, busy + length
            waited = costs.wait_each * len(flying)
            now = max(now, flying[0]) + waited
            driver += waited
            arrived = 0
            while flying and flying[0] <= now and (batched or not arrived):
                heapq.heappop(flying)
                arrived += 1
            now, driver = now + arrived * costs.take_in, driver + arrived * costs.take_in
            idle += arrived
    return Outcome(
        per_minute=60 * per_round * rounds / now,
        driver=driver / now,
        workers=busy / (now * workers),
        spread_out=math.ceil(math.log2(workers + 1)) * costs.payload / costs.bandwidth,
    )


def measured(costs: Costs) -> Costs:
    """Costs of this machine: two workers, the default rollout of ResNet-20."""
    import cloudpickle
    import numpy as np
    import ray

    from benchmarks.scaling import noise_evaluator, random_profiles
    from ws_learner.config import ClusterConfig
    from ws_learner.training import ray_session

    evaluator = noise_evaluator()
    scores = [evaluator.score(zeros) for zeros in random_profiles(evaluator, 6, seed=0)]
    times = [score.seconds for score in scores[1:]]

    @ray.remote(num_cpus=1)
    class Idle:
        def score(self, zeros: object) -> object:
            return scores[0]

        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    zeros = random_profiles(evaluator, 1, seed=1)[0]
    with ray_session(ClusterConfig(workers=2)):
        worker = Idle.remote()  # type: ignore[attr-defined]
        ray.get(worker.score.remote(zeros))
        begun = time.perf_counter()
        refs = [worker.score.remote(zeros) for _ in range(500)]
        sent = time.perf_counter()
        ray.wait(refs, num_returns=len(refs))
        there = time.perf_counter()
        for ref in refs:
            ray.get(ref)
        taken = time.perf_counter()
        pending = [worker.sleep.remote(0.01) for _ in range(300)]
        waits = []
        for _ in range(20):
            start = time.perf_counter()
            ray.wait(pending, num_returns=1, timeout=0)
            waits.append(time.perf_counter() - start)
        ray.wait(pending, num_returns=len(pending))
    return replace(
        costs,
        rollout=statistics.mean(times),
        spread=float(np.std(times) / np.mean(times)),
        hand_out=(sent - begun) / 500,
        take_in=(taken - there) / 500,
        wait_each=statistics.median(waits) / 300,
        payload=float(len(cloudpickle.dumps(evaluator))),
        propose=_proposing(evaluator, scores[0]),
    )


def _proposing(evaluator: RolloutEvaluator, score: Score) -> float:
    """Seconds the default search takes for a candidate besides having it scored."""
    import tempfile
    from pathlib import Path

    from agents import DDPGConfig
    from ws_learner.config import PROTOCOLS, WeightSparseConfig
    from ws_learner.search import (
        CLOSED_FORM,
        Search,
        allocation_context,
        build_proposer,
        build_pruning_problem,
    )

    config = WeightSparseConfig()

    def invented(candidates: Sequence[IntArray]) -> list[Score]:
        return [replace(score, reward=random.Random(z.tobytes()).random()) for z in candidates]

    problem = build_pruning_problem(evaluator, config, evaluate=invented)
    context = allocation_context(evaluator.dense, evaluator.layers, config, curves=evaluator.curves)
    starts = [name for name, protocol in PROTOCOLS.items() if protocol.starts_search]
    count = 100
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            problem=problem,
            proposer=build_proposer(problem, config, agent=DDPGConfig(), seed=0),
            seeds={name: CLOSED_FORM[name](context) for name in starts},
            rollouts=count,
            per_round=config.ws_rlouts_per_round,
            state=Path(folder) / "search.pt",
            table=Path(folder) / "rollouts.csv",
        )
        begun = time.perf_counter()
        search.run()
    return (time.perf_counter() - begun) / count


def main(options: Options) -> None:
    """Measure if asked to, simulate, print."""
    from tabulate import tabulate

    costs = measured(options.costs) if options.measure else options.costs
    print(costs)
    rows = []
    for workers in options.workers:
        grown = max(8, round(options.grown * workers))
        for what, size, batched in (
            ("round of 8", 8, False),
            (f"round of {grown}", grown, False),
            (f"round of {grown}, results taken in together", grown, True),
        ):
            found = simulate(
                costs, workers=workers, per_round=size, rounds=options.rounds, batched=batched
            )
            rows.append(
                (
                    *(f"{workers:,}", what, f"{found.per_minute:,.0f}", f"{found.workers:.0%}"),
                    *(f"{found.driver:.0%}", f"{found.spread_out:.1f}"),
                )
            )
    names = [
        "workers",
        "search",
        "rollouts/min",
        "workers busy",
        "driver busy",
        "network there, s",
    ]
    print(tabulate(rows, headers=names, disable_numparse=True, stralign="right"))
    each = costs.propose + costs.hand_out + costs.take_in
    print(
        f"the driver is full at {costs.rollout / each:,.0f} workers; without the agent's share "
        f"({costs.propose:g} s a candidate) at "
        f"{costs.rollout / (costs.hand_out + costs.take_in):,.0f}"
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
