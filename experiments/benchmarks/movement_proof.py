"""Is movement worth it? MiniLM on TREC-6, against gradual magnitude pruning at the same sparsity.

    python -m experiments.benchmarks.movement_proof [--epochs 5] [--out DIR] [--runs DIR]

All runs start from one fine-tuned network and are distilled from it: single weights at 90 and 97 %,
whole heads and neurons at 50 %, the 90 % pair with two seeds. Each run is an ordinary one, resumes
by itself and is skipped once finished; the table is written anew after each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PLAN", "Run", "main", "table"]


@dataclass(frozen=True)
class Run:
    """One run of the plan."""

    method: str
    pattern: str
    ratio: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}-{self.pattern}-{self.ratio:g}-{self.seed}"

    def words(self, *, epochs: float, rate: float) -> list[str]:
        """Its command line, but for the folders."""
        return [
            *("bert_at_trec", "--ws_method", self.method, "--ws_pattern", self.pattern),
            *("--ws_prune_ratio", f"{self.ratio:g}", "--ws_prune_ratio_prtl", "uniform"),
            *("--ws_include", "bert.encoder.*", "--enbl_dst", "--seed", str(self.seed)),
            *("--nb_epochs", f"{epochs:g}", "--lrn_rate", f"{rate:g}"),
        ]


def _plan() -> Iterator[Run]:
    both = ("movement", "gradual")
    for method in both:
        yield Run(method, "unstructured", 0.9, 0)
    for method in both:
        yield Run(method, "units", 0.5, 0)
    for method in both:
        yield Run(method, "unstructured", 0.97, 0)
    for method in both:
        yield Run(method, "unstructured", 0.9, 1)


PLAN = tuple(_plan())
_COLUMNS = (
    *("method", "pattern", "sparsity", "seed", "dense %", "sparse %", "seconds", "parameters"),
    *("ms, batch 1", "ms, batch 32"),
)


def table(runs: Path, plan: Sequence[Run] = PLAN) -> str:
    """The finished runs as a Markdown table."""
    lines = [" | ".join(_COLUMNS).join(("| ", " |")), "|---" * len(_COLUMNS) + "|"]
    for run in plan:
        file = runs / run.name / "summary.json"
        if file.exists():
            lines.append(" | ".join(_cells(run, json.loads(file.read_text()))).join(("| ", " |")))
    return "\n".join(lines) + "\n"


def _cells(run: Run, summary: dict[str, Any]) -> list[str]:
    def changed(before: str, after: str, *, places: int = 0) -> str:
        if after not in summary:
            return ""
        return f"{summary[before]:,.{places}f} -> {summary[after]:,.{places}f}"

    return [
        run.method,
        run.pattern,
        f"{summary['achieved_prune_ratio']:.4f}",
        str(run.seed),
        f"{100 * summary['dense_accuracy']:.2f}",
        f"{100 * summary['sparse_accuracy']:.2f}",
        f"{summary['train_seconds']:.0f}",
        changed("parameters", "cropped_parameters"),
        changed("dense_ms_batch_1", "cropped_ms_batch_1", places=1),
        changed("dense_ms_batch_32", "cropped_ms_batch_32", places=1),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run what is not finished; returns 1 if a run failed."""
    from experiments.run import main as run_one
    from ws_learner.files import write_text

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=float, default=5, help="of each run (default 5)")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate (default 2e-4)")
    parser.add_argument("--runs", type=Path, default=Path("runs/movement_proof"))
    parser.add_argument("--dense", type=Path, help="fine-tuned weights; else they are trained")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/movement"))
    options = parser.parse_args(arguments)
    for run in PLAN:
        if (options.runs / run.name / "summary.json").exists():
            continue
        words = run.words(epochs=options.epochs, rate=options.rate)
        words += ["--run_dir", str(options.runs / run.name)]
        words += ["--dense_checkpoint", str(options.dense)] if options.dense else []
        if code := run_one(words, runs=options.runs):
            return code
        write_text(options.out / "table.md", table(options.runs))
    print(table(options.runs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
