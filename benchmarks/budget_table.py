"""Budgets on six networks: asked, predicted, measured, accuracy; joint choice against one pattern.

    python -m benchmarks.budget_table --out experiments/results/budgets
    python -m benchmarks.budget_table --networks mlp,digits --seeds 1

Every entrant gets the same latency in our runtime, a share of the dense network's, and the same
training: the joint choice of pattern, ratio and number format, and each pattern alone with both
number formats. Ratios are those of `divergence`. `channels` removes whole units for the same
milliseconds in ONNX Runtime. Accuracy is that of the compiled network, bytes included. Cells that
the table holds are not run again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.budget_networks import NETWORKS, load_network
from ws_learner.core import UserError, say

if TYPE_CHECKING:
    import pandas as pd

    from experiments.experiment import Experiment

__all__ = ["ENTRANTS", "main"]

ENTRANTS: dict[str, Mapping[str, Any]] = {
    "joint": {"ws_pattern": "auto", "ws_dtype": "fp32,int8"},
    "unstructured": {"ws_pattern": "unstructured", "ws_dtype": "fp32,int8"},
    "4x1": {"ws_pattern": "4x1", "ws_dtype": "fp32,int8"},
    "4x4": {"ws_pattern": "4x4", "ws_dtype": "fp32,int8"},
    "16x4": {"ws_pattern": "16x4", "ws_dtype": "fp32,int8"},
    "channels": {},
}
"""Settings of each entrant."""

_KEYS = ("network", "entrant", "seed")


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the table and print the comparison; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of the six")
    parser.add_argument("--entrants", default=",".join(ENTRANTS), help="some of them")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default 3)")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/results/budgets"), help="folder of the table"
    )
    parser.add_argument("--work", type=Path, help="folder of dense weights (default: OUT/work)")
    given = parser.parse_args(argv)
    try:
        names = _chosen(given.networks, NETWORKS, "networks")
        entrants = _chosen(given.entrants, ENTRANTS, "entrants")
        given.out.mkdir(parents=True, exist_ok=True)
        work = given.work or given.out / "work"
        for name in names:
            _run_network(name, entrants, seeds=given.seeds, out=given.out, work=work)
    except UserError as error:
        say(f"error: {error}")
        return 2
    from benchmarks.budget_report import write_report

    print(write_report(given.out))
    return 0


def _chosen(text: str, known: Mapping[str, Any], flag: str) -> list[str]:
    from ws_learner.core import suggest

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"--{flag} {name}: {suggest(name, known)}")
    return names


def _run_network(name: str, entrants: Sequence[str], *, seeds: int, out: Path, work: Path) -> None:
    """Fill the rows of a network that are missing."""
    import pandas as pd

    from ws_learner.core import write_text

    table = out / "rows.csv"
    rows: list[dict[str, Any]] = []
    if table.exists():
        rows = [
            {str(key): value for key, value in row.items()}
            for row in pd.read_csv(table).to_dict("records")
        ]
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    missing = [e for e in entrants if any((name, e, s) not in known for s in range(seeds))]
    if not missing:
        return
    experiment = load_network(name, work)
    experiment.model.eval()
    for entrant in missing:
        for seed in range(seeds):
            if (name, entrant, seed) in known:
                continue
            row = {"network": name, "entrant": entrant, "seed": seed}
            rows.append(row | _cell(name, entrant, seed, experiment, work, table=rows))
            write_text(table, pd.DataFrame(rows).to_csv(index=False))
            say(f"{name} {entrant} {seed}: {rows[-1]['accuracy']:.4f}")


def _cell(
    name: str,
    entrant: str,
    seed: int,
    experiment: Experiment,
    work: Path,
    *,
    table: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Allocate with the first seed, train with this one, measure."""
    from dataclasses import replace

    from ws_learner import WeightSparseLearner
    from ws_learner.config import WeightSparseConfig

    setting, first = NETWORKS[name], work / f"{name}-{entrant}-0"
    known = [row.get("asked_ms") for row in table if row["network"] == name]
    asked = [float(one) for one in known if one is not None and one == one]
    engine = "onnxruntime" if entrant == "channels" else "wsr"
    if engine != "wsr" and not asked:
        return {"accuracy": float("nan"), "failed": "no entrant in our runtime has run"}
    amount = f"{asked[0]:.6g}ms" if asked else str(setting.share)
    budget = f"latency={amount}@{engine}"
    folder = work / f"{name}-{entrant}-{seed}"
    if seed and (first / "state" / "allocation.json").exists():
        (folder / "state").mkdir(parents=True, exist_ok=True)
        for file in ("allocation.json", "budgets.json", "structured.safetensors"):
            if (first / "state" / file).exists():
                shutil.copy(first / "state" / file, folder / "state" / file)
    learner = WeightSparseLearner(
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=replace(experiment.sparse_recipe, nb_epochs=setting.epochs),
        run_dir=folder,
        claims=False,
        seed=seed,
        outputs=experiment.outputs,
        config=WeightSparseConfig(
            ws_budget=budget,
            ws_prune_ratio_prtl="divergence",
            ws_latency_batch=setting.batch,
            ws_pattern=ENTRANTS[entrant].get("ws_pattern", ""),
            ws_dtype=ENTRANTS[entrant].get("ws_dtype", "fp32"),
        ),
    )
    try:
        result = learner.fit()
    except UserError as error:
        return {"accuracy": float("nan"), "failed": str(error).splitlines()[0]}
    part, summary = result.summary["budget_parts"][0], result.summary
    return {
        "asked_ms": part["most"],
        "predicted_ms": part["predicted"],
        "pruned_ms": part.get("measured"),
        "finished_ms": part["finished"],
        "dense_accuracy": summary["dense_metric"],
        "accuracy": summary.get("int8_metric", summary["sparse_metric"]),
        "float_accuracy": summary["sparse_metric"],
        "zeros": summary["achieved_prune_ratio"],
        "patterns": str(summary["pattern"]),
        "bytes_layers": _int8_layers(result.ratios),
        "corrected": len(list((folder / "state").glob("sparse-*.pt"))),
        "failed": "",
    }


def _int8_layers(ratios: pd.DataFrame) -> int:
    return int((ratios["dtype"] == "int8").sum()) if "dtype" in ratios else 0


if __name__ == "__main__":
    sys.exit(main())
