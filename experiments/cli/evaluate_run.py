"""`--exec_mode eval`: a finished run, opened again and measured from its saved bytes."""

from __future__ import annotations

from types import ModuleType

from experiments.cli.find_own_file import say_changed
from experiments.cli.rebuild_experiment import load_experiment
from experiments.cli.task_metrics import task_metric_lines
from ws_learner.core import ComputeDevice, RunDir, UserError, load_state, reading, say, warn
from ws_learner.report import DAMAGED_TABLE, metric_of, read_table
from ws_learner.training import evaluate

__all__ = ["evaluate_run", "load_experiment"]


def evaluate_run(run: RunDir, compute: ComputeDevice, *, module: ModuleType | None = None) -> int:
    """Recompute sparsity and the test metric; return 0 if both are what the summary says, else 1.

    Args:
        run: The run.
        compute: Where it is measured.
        module: The experiment file; by default the project's own that the run's settings name.

    Raises:
        UserError: The folder holds no finished run, or its files do not fit together.
    """
    summary = run.read_summary()
    say(f"opening {run.model} again")
    if module is not None:
        say_changed(run, module)
    experiment = load_experiment(run, module=module)
    compute.place_model(experiment.model)
    metric, test = experiment.metric, experiment.data.test
    found = evaluate(experiment.model, test, metric, compute=compute, where="the test split")
    dense = summary.get("learner") == "full-prec"
    with reading(run.summary, "take the file from a copy"):
        shown = metric_of(summary)
        recorded = shown.value("dense" if dense else "sparse")
        recorded = None if recorded is None else float(recorded)
    task_metric_lines(experiment, experiment.model, compute)
    if recorded is None:
        raise UserError(f"{run.summary}: holds no metric of the network; the file is damaged")
    warn(f"test {shown.name} {found:.4f} (recorded {recorded:.4f}), {len(test)} images")
    agrees = abs(found - recorded) < 5e-4 * max(1.0, abs(recorded))
    if not dense:
        agrees = _same_zeros(run) and agrees
    warn("agrees with the run's summary" if agrees else "DOES NOT AGREE with the run's summary")
    return 0 if agrees else 1


def _same_zeros(run: RunDir) -> bool:
    table, state = read_table(run.ratios), load_state(run.model)
    with reading(run.ratios, DAMAGED_TABLE):
        wanted = (table["achieved"] * table["weights"]).round().astype("int64")
        counts = [int((state[name] == 0).sum()) for name in table["layer"]]
        total = int(table["weights"].sum())
    say(f"prune ratio {sum(counts) / total:.6f}: {sum(counts)} of {total} weights are zero")
    return counts == wanted.tolist()
