"""A finished run as a deploy folder: `ws-learner export runs/<one> --to deploy`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws_learner.config import parse_budgets
from ws_learner.core import RunDir, UserError, load_yaml, say

if TYPE_CHECKING:
    import pandas as pd

    from experiments.experiment import Experiment

__all__ = ["DEPLOY_ENGINES", "export_deploy_folder"]

DEPLOY_ENGINES = ("wsr", "onnxruntime", "openvino", "torch")
_CALIBRATION = 8
_FROM_SUMMARY = (
    *("metric", "metric_unit", "higher_is_better", "measured_on", "dense_metric", "sparse_metric"),
    *("target_prune_ratio", "achieved_prune_ratio", "experiment"),
)


def export_deploy_folder(
    run: RunDir,
    folder: Path,
    *,
    engine: str | None,
    dtype: str | None,
    batch: int | None,
    threads: int | None,
    shrinks: bool,
    experiment: Experiment,
) -> None:
    """Write the folder of a finished run.

    Args:
        run: The run.
        folder: Made; an earlier deploy folder there is replaced.
        engine: One of `DEPLOY_ENGINES`; None takes that of the run's latency budget, or wsr.
        dtype: `fp32`, `int8` or `auto`; None takes each layer's from the run's ratios, or fp32.
        batch: Examples that the network is timed with; None takes that of the run's latency
            budget, or 1.
        threads: That it uses; None likewise.
        shrinks: Cut out what is dead first.
        experiment: The run's, with its trained network.

    Raises:
        UserError: See `write_deploy_folder`.
    """
    batch = _of_call(run, "batch") if batch is None else batch
    threads = _of_call(run, "threads") if threads is None else threads
    if batch < 1:
        raise UserError(f"--batch {batch}: must be a whole number, at least 1")
    from ws_learner.core import rows_of
    from ws_learner.deploy import write_deploy_folder
    from ws_learner.report import read_table

    budget = _budget(run)
    table = read_table(run.ratios) if run.ratios.exists() else None
    chosen = engine or engine_of(budget) or "wsr"
    example, _ = next(iter(experiment.data.test.batches(batch)))
    train = experiment.data.train.batches(64, seed=0)
    model = experiment.model.eval()
    record = write_deploy_folder(
        model,
        rows_of(example, slice(batch)),
        folder,
        engine=chosen,
        dtype=dtype or _formats(table),
        calibration=(inputs for inputs, _ in islice(train, _CALIBRATION)),
        threads=threads,
        shrinks=shrinks,
        budget=budget or None,
        predicted_ms=_predicted(run),
        facts=_facts(run),
    )
    say(_told(record))


def engine_of(budget: str) -> str | None:
    """The engine of a latency budget, such as `latency=0.4@wsr,bytes=2MB`; None without one."""
    engines = [one.engine for one in parse_budgets(budget)] if budget else []
    return next((one for one in engines if one in DEPLOY_ENGINES), None)


def _budget(run: RunDir) -> str:
    """What the run was asked for, as text; empty if it has no budget."""
    settings: Any = load_yaml(run.config.read_text()) if run.config.exists() else {}
    return str((settings or {}).get("ws_budget") or "")


def _formats(table: pd.DataFrame | None) -> str | dict[str, str]:
    """The number format of each layer, if the run has chosen them; `fp32` if all have it."""
    if table is None or "dtype" not in table:
        return "fp32"
    formats = table.set_index("layer")["dtype"].fillna("fp32").astype(str)
    found = {str(name).removesuffix(".weight"): kind for name, kind in formats.items()}
    return found if set(found.values()) != {"fp32"} else "fp32"


def _predicted(run: RunDir) -> float | None:
    """Milliseconds that the run predicted for its network; None without a budget of latency."""
    parts = run.read_summary().get("budget_parts", [])
    timed = [part for part in parts if str(part.get("unit", "")).startswith("latency")]
    return float(timed[0]["predicted"]) if timed and "predicted" in timed[0] else None


def _of_call(run: RunDir, name: str) -> int:
    """Batch or threads of the run's latency budget; 1 without one."""
    settings: Any = load_yaml(run.config.read_text()) if run.config.exists() else {}
    value = settings.get(f"ws_latency_{name}", 1) if isinstance(settings, dict) else 1
    return value if isinstance(value, int) and value >= 1 else 1


def _facts(run: RunDir) -> dict[str, Any]:
    summary = run.read_summary()
    return {name: summary[name] for name in _FROM_SUMMARY if name in summary}


def _told(record: dict[str, Any]) -> str:
    measured, predicted = record["measured_ms"], record["predicted_ms"]
    low, high = measured["quartiles"]
    promised = "" if predicted is None else f", {predicted:.3g} ms predicted"
    gain = record["pytorch_ms"]["median"] / measured["median"]
    return (
        f"{record['engine']}, {record['threads']} thread, batch {record['batch']}: "
        f"{measured['median']:.3g} ms ({low:.3g} to {high:.3g}){promised}, "
        f"{gain:.2g} times as fast as in PyTorch; {record['bytes']:,} bytes"
    )
