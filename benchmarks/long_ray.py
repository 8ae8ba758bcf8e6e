"""Many small searches in one driver, over one local Ray."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.process_readings import bytes_below, files_below, read_processes
from benchmarks.readings_file import ReadingsFile

if TYPE_CHECKING:
    from benchmarks.long_options import Options
    from envs import AllocationProblem, IntArray

__all__ = ["run_over_ray"]

_ROLLOUTS, _FIRST = 7, 3
"""Rollouts of a search, and how many of them are computed in closed form."""
_PROTOCOLS = ("evolution", "optimal", "bayesian", "surrogate")


def run_over_ray(options: Options) -> None:
    """Run until the runs or the minutes are used up; note every `every` runs."""
    temporary = Path(tempfile.mkdtemp(prefix="lg-"))  # short: it holds sockets
    os.environ |= {"TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
    tempfile.tempdir = None  # read again
    try:
        _over_ray(options, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _over_ray(options: Options, temporary: Path) -> None:
    import torch

    from benchmarks.small_task import build_small_task, small_evaluator, small_settings
    from ws_learner.config import ClusterConfig
    from ws_learner.search import RayPool, build_pruning_problem, seed_profiles
    from ws_learner.training import ray_session

    torch.set_num_threads(1)
    config = small_settings("optimal", ws_nb_rlouts=_ROLLOUTS, ws_nb_rlouts_min=_FIRST + 1)
    evaluator = small_evaluator(build_small_task(), config)
    cluster = ClusterConfig(workers=options.workers)
    file = ReadingsFile(options.out / "ray.csv")
    first, end = int(file.last("run")), time.monotonic() + 60 * options.minutes
    pools = 0
    with ray_session(cluster), ExitStack() as held:
        wall, processor = time.perf_counter(), time.process_time()
        for run in range(first + 1, options.runs + 1):
            if (run - first - 1) % options.per_pool == 0:
                held.close()
                pool, pools = held.enter_context(RayPool(evaluator, cluster)), pools + 1
                problem = build_pruning_problem(evaluator, config, evaluate=pool.evaluate)
                seeds = seed_profiles(evaluator.context(config))
            _small_search(problem, seeds, seed=run, folder=temporary / "search")
            if run % options.every == 0:
                now = time.perf_counter(), time.process_time()
                spent = ((now[0] - wall) / options.every, (now[1] - processor) / options.every)
                file.add(_row(run, pools, spent, temporary))
                wall, processor = time.perf_counter(), time.process_time()
            if time.monotonic() > end:
                break


def _small_search(
    problem: AllocationProblem, seeds: Mapping[str, IntArray], *, seed: int, folder: Path
) -> None:
    """A search of seven rollouts; its files are deleted."""
    from agents import DDPGConfig
    from benchmarks.small_task import small_settings
    from ws_learner.search import Search, build_proposer

    protocol = _PROTOCOLS[seed % len(_PROTOCOLS)]
    config = small_settings(protocol, ws_nb_rlouts=_ROLLOUTS, ws_nb_rlouts_min=_FIRST + 1)
    agent = DDPGConfig(ddpg_nb_updates=2)
    folder.mkdir()
    try:
        found = Search(
            problem=problem,
            proposer=build_proposer(problem, config, agent=agent, seed=seed),
            seeds=dict(list(seeds.items())[:_FIRST]),
            rollouts=_ROLLOUTS,
            per_round=2,
            state=folder / "search.pt",
            table=folder / "rollouts.csv",
            seed=seed,
        ).run()
        if len(found) != _ROLLOUTS or any(one.score.failed for one in found):
            raise RuntimeError(f"run {seed}: a rollout failed")
    finally:
        shutil.rmtree(folder)


def _row(run: int, pools: int, spent: tuple[float, float], temporary: Path) -> dict[str, Any]:
    import ray
    from ray.experimental.internal_kv import _internal_kv_list

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    name = "object_store_memory"
    rays = list(temporary.glob("ws-ray-*"))
    return {
        "run": run,
        "pools": pools,
        "seconds_per_run": round(spent[0], 3),
        "driver_processor_s": round(spent[1], 4),
        **dataclasses.asdict(read_processes()),
        "session_files": files_below(rays),
        "session_mib": round(sum(map(bytes_below, rays)) / 2**20, 2),
        "other_temporary_files": files_below([p for p in temporary.iterdir() if p not in rays]),
        "object_store_kib": round((there[name] - free.get(name, 0.0)) / 1024, 1),
        "exported_classes": len(_internal_kv_list(b"ActorClass", namespace="fun")),
    }
