"""`--exec_mode eval`: a finished run, opened again and measured from its saved bytes."""

from __future__ import annotations

from experiments.cli.rebuild_experiment import load_experiment
from experiments.cli.task_metrics import task_metric_lines
from ws_learner.core import ComputeDevice, RunDir, load_state, say
from ws_learner.report import read_table
from ws_learner.training import evaluate

__all__ = ["evaluate_run", "load_experiment"]


def evaluate_run(run: RunDir, compute: ComputeDevice) -> int:
    """Recompute sparsity and test accuracy; return 0 if both are what the summary says, else 1.

    Raises:
        UserError: The folder holds no finished run, or its files do not fit together.
    """
    summary = run.read_summary()
    say(f"opening {run.model} again")
    experiment = load_experiment(run)
    compute.place_model(experiment.model)
    metric, test = experiment.metric, experiment.data.test
    accuracy = evaluate(experiment.model, test, metric, compute=compute)
    dense = summary["learner"] == "full-prec"
    recorded = summary["dense_accuracy" if dense else "sparse_accuracy"]
    task_metric_lines(experiment, experiment.model, compute)
    say(f"test accuracy {accuracy:.4f} (recorded {recorded:.4f}), {len(test)} images")
    agrees = abs(accuracy - recorded) < 5e-4
    if not dense:
        agrees = _same_zeros(run) and agrees
    say("agrees with the run's summary" if agrees else "DOES NOT AGREE with the run's summary")
    return 0 if agrees else 1


def _same_zeros(run: RunDir) -> bool:
    table, state = read_table(run.ratios), load_state(run.model)
    wanted = (table["achieved"] * table["weights"]).round().astype("int64")
    counts = [int((state[name] == 0).sum()) for name in table["layer"]]
    total = int(table["weights"].sum())
    say(f"prune ratio {sum(counts) / total:.6f}: {sum(counts)} of {total} weights are zero")
    return counts == wanted.tolist()
