"""Ablations of the `optimal` search that could refute it: ResNet-20, or another network.

    python -m benchmarks.agent_ablation [--parts searches equal_time] [--targets 0.9 0.95]

- `searches`: `optimal`, `optimal` without one of its parts, other searches, and profiles that take
  no rollout. The best profile of each by its search images is scored on the 4,000 select images.
- `equal_time`: what the other searches have found by the rollouts of `optimal`, and by its
  processor seconds with own divergences in full.
- `frontier`: one search for all targets, and other searches at each.
- `training`: test accuracy after equal short gradual pruning, and the noise of training.
- `finetuning`: fine-tuning in the rollouts, at equal processor time; test accuracy after training.

Processor seconds are counted, so that a busy machine does not matter much. Entrants are compared
with `optimal` seed by seed. The same command resumes a stopped run.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.ablation_frontier import seconds_of_frontier
from benchmarks.ablation_jobs import one_thread_each, run_jobs
from benchmarks.ablation_options import Options, refuse
from benchmarks.ablation_parts import (
    AnyJob,
    frontier_jobs,
    own_jobs,
    prefix_jobs,
    profile_jobs,
    search_jobs,
    tuned_jobs,
    work,
)
from benchmarks.ablation_training import AGAIN, noise_of_training, training_jobs
from benchmarks.cifar_task import cores
from benchmarks.paired_differences import paired_differences
from benchmarks.search_tasks import choose_task, chosen_task
from benchmarks.short_training import train_all
from ws_learner.core import say, write_text

__all__ = ["Options", "main"]

_COSTS = ["rollouts", "rollout_seconds", "proposal_seconds", "own_seconds", "seconds"]


def main(options: Options) -> None:
    """Run and report the parts."""
    one_thread_each()
    refuse(options)
    choose_task(options.network)
    chosen_task()  # a first download or fine-tuning, before processes need it side by side
    _run(own_jobs(options), "own", options)
    parts = {
        "searches": _searches,
        "equal_time": _equal_time,
        "frontier": _frontier,
        "training": _training,
        "finetuning": _finetuning,
    }
    for part in options.parts:
        parts[part](options)


def _run(jobs: list[AnyJob], table: str, options: Options) -> pd.DataFrame:
    path = options.out / f"{table}.csv"
    return run_jobs(work, jobs, table=path, workers=options.workers or cores())


def _searches(options: Options) -> None:
    rows = _run(search_jobs(options), "searches", options)
    _report(rows, "select", "searches", "best profile by search images, on select images", options)
    chosen = rows[rows["chosen_select"].notna()]
    if len(chosen):
        title = f"best of {options.rescored} finalists, on the select images that chose it"
        _report(chosen, "chosen_select", "searches-chosen", title, options)
    costs = rows.groupby(["target", "entrant"], sort=False)[_COSTS].mean().reset_index()
    _table(costs, "searches-costs", "rollouts and processor seconds, means over seeds", options)


def _equal_time(options: Options) -> None:
    found = _run(prefix_jobs(options), "equal_time", options)
    searched = _run(search_jobs(options), "searches", options)
    fixed = (searched["entrant"] == "optimal") | (searched["kind"] == "cheap")
    for part, rows in found.groupby("part"):
        both = pd.concat([rows, searched[fixed]])
        name = str(part).replace(" ", "-")
        _report(both, "select", name, f"{part} with `optimal`, on select images", options)
        costs = both.groupby(["target", "entrant"], sort=False)[_COSTS].mean().reset_index()
        _table(costs, f"{name}-costs", f"{part}: rollouts and processor seconds", options)


def _frontier(options: Options) -> None:
    rows = _run(frontier_jobs(options), "frontier", options)
    supplied = rows["entrant"].str.contains(": ")
    name, title = "frontier", "one search for all targets, on select images"
    _report(rows[~supplied], "select", name, title, options, reference="optimal goals")
    ours = rows[supplied | (rows["entrant"] == "optimal goals")]
    name, title = "frontier-suppliers", "what each supplier had, against what was emitted"
    _report(ours, "select", name, title, options, reference="optimal goals")
    emitted = rows[rows["entrant"].isin(["optimal goals", "optimal goals without actor"])]
    counts = emitted.groupby(["entrant", "kind"]).size().rename("times").reset_index()
    _table(counts, "frontier-emitted", "who supplied what was emitted", options)
    costs = seconds_of_frontier(rows[~supplied])
    _table(costs, "frontier-costs", "rollouts and processor seconds for all targets", options)


def _training(options: Options) -> None:
    rows = _run(profile_jobs(options), "searches", options)
    trained = _train(rows, options, repeated=options.train_targets)
    title = f"test accuracy after {options.nb_epochs:g} epochs of gradual pruning"
    compared = trained[trained["name"] != AGAIN].rename(columns={"name": "entrant"})
    _report(compared, "accuracy", "training", title, options)
    noise = noise_of_training(trained)
    _table(noise, "training-noise", "trainings of one profile with several seeds", options)


def _finetuning(options: Options) -> None:
    rows = _run(tuned_jobs(options), "searches", options)
    trained = _train(rows, options).rename(columns={"name": "entrant"})
    title = f"fine-tuning in the rollouts: test accuracy after {options.nb_epochs:g} epochs"
    _report(trained, "accuracy", "finetuning", title, options)
    costs = rows.groupby(["target", "entrant"], sort=False)[_COSTS].mean().reset_index()
    _table(costs, "finetuning-costs", "rollouts and processor seconds", options)


def _train(
    rows: pd.DataFrame, options: Options, *, repeated: tuple[float, ...] = ()
) -> pd.DataFrame:
    jobs = training_jobs(rows, nb_epochs=options.nb_epochs, repeated=repeated)
    table = options.out / "trained.csv"
    every = train_all(jobs, workers=options.workers or cores(), table=table)
    wanted = pd.DataFrame(
        [(job.name, job.target, job.seed, job.nb_epochs) for job in jobs],
        columns=["name", "target", "seed", "nb_epochs"],
    )
    return every.merge(wanted)


def _report(
    rows: pd.DataFrame,
    column: str,
    name: str,
    title: str,
    options: Options,
    *,
    reference: str = "optimal",
) -> None:
    named = rows.rename(columns={"entrant": "name"})
    if reference not in set(named["name"]):
        say(f"{name}: no row of {reference}, so nothing to compare with")
        return
    table = paired_differences(named, column, reference=reference)
    medians = named.groupby("name")[column].median()
    over = named.groupby([named["target"].map("{:g}".format), "name"])[column].median()
    table["median"] = [
        medians[row["name"]] if row["target"] == "all" else over[row["target"], row["name"]]
        for row in table.to_dict("records")
    ]
    _table(table, name, title, options)


def _table(table: pd.DataFrame, name: str, title: str, options: Options) -> None:
    path: Path = options.out / "tables" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, table.to_csv(index=False, float_format="%.5f"))
    shown = table.to_string(index=False, float_format=lambda value: f"{value:.4f}")
    print(f"\n{title} ({path}):\n\n{shown}", flush=True)


if __name__ == "__main__":
    import tyro

    say("ablations of `optimal`: up to 4 hours on two cores; to resume, repeat the command")
    main(tyro.cli(Options, description=__doc__))
