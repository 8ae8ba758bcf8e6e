"""Recovery of a pruned SmolLM2-135M, against the dense network trained on the same tokens.

    python -m benchmarks.lm_recovery --run runs/<one-shot> --other 'FOLDER/*.rst' --minutes 20

Perplexity is measured on the run's held-out addresses and on a text of another kind, so that
getting used to the addresses is not taken for recovery. Every line trains for the same minutes,
which are minutes of the processor's time with `--processor`. With `--curve` perplexity on the
addresses is measured on the way, too; the clock stands still for that. Each line is written to
`recovery.csv` when it is finished; the same command resumes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks.paired_differences import interval
from benchmarks.readings_file import ReadingsFile
from experiments.language import find_texts
from experiments.smollm_at_sotu import Options as Settings
from experiments.smollm_at_sotu import language_task
from ws_learner.core import RunDir, write_text
from ws_learner.language import (
    BlockNetwork,
    LanguageTask,
    PrunedBlocks,
    Recovery,
    block_layers,
    open_pruned,
    open_tokenizer,
    read_whole,
    recover,
    window_losses,
)

__all__ = ["LINES", "Options", "main", "table"]

LINES: dict[str, dict[str, Any]] = {
    "dense": {},
    "dense, fine-tune": {"recover_by": "fine-tune"},
    "one-shot": {},
    "distill": {},
    "fine-tune": {"recover_by": "fine-tune"},
    "distill, LoRA of rank 16": {"recover_rank": 16},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare ways of recovery.

    Attributes:
        run: Finished run of `smollm_at_sotu` without recovery.
        other: Pattern of the files of the other text.
        minutes: Of training.
        processor: Whether they are minutes of processor time.
        curve: Minutes after which perplexity is measured on the way.
        rate: Highest learning rate; 0 takes the usual ones.
        only: Lines that run now; by default all.
        out: Folder of the tables.
    """

    run: Path
    other: str
    minutes: float = 20.0
    processor: bool = False
    curve: tuple[float, ...] = ()
    rate: float = 0.0
    only: tuple[str, ...] = ()
    out: Path = Path("experiments/results/lm_recovery")


def main(options: Options) -> None:
    """Run what is missing, then write the table."""
    options.out.mkdir(parents=True, exist_ok=True)
    readings = ReadingsFile(options.out / "recovery.csv")
    settings = Settings(recover_minutes=options.minutes, recover_rate=options.rate or None)
    task = language_task(settings)
    other = read_whole(find_texts([options.other]), open_tokenizer(task.folder), length=512)
    for line, changes in LINES.items():
        trained, pruned = line not in ("dense", "one-shot"), not line.startswith("dense")
        row: dict[str, float | str] = {
            "pruned": options.run.name if pruned else "-",
            "line": line,
            "minutes": options.minutes if trained else 0.0,
            "rate": options.rate if trained else 0.0,
        }
        if _is_done(row, readings) or (options.only and line not in options.only):
            continue
        network = open_pruned(RunDir(options.run)) if pruned else task.network
        row |= {"steps": 0, "processor_seconds": 0.0, "curve": ""}
        if trained:
            own = replace(settings, **changes)
            network = _trained(network, task, own, row, options)
        for text, windows in (("sotu", task.windows.test), ("other", other)):
            losses = window_losses(network, windows, what=f"{line} on {text}")
            row[text] = " ".join(f"{value:.5f}" for value in losses)
        readings.add(row)
    write_text(options.out / "table.md", table(pd.DataFrame(readings.rows())))


def _is_done(row: Mapping[str, float | str], readings: ReadingsFile) -> bool:
    return any(
        (one["pruned"], one["line"]) == (row["pruned"], row["line"])
        and (float(one["minutes"]), float(one["rate"])) == (row["minutes"], row["rate"])
        for one in readings.rows()
    )


def _trained(
    network: BlockNetwork,
    task: LanguageTask,
    settings: Settings,
    row: dict[str, float | str],
    options: Options,
) -> BlockNetwork:
    """Train; note steps, seconds and the curve in the row."""
    tick = time.process_time if options.processor else time.monotonic
    asked, stopped, found = list(options.curve), [0.0], list[str]()

    def watch(seconds: float) -> None:
        if asked and seconds >= 60 * asked[0]:
            before = tick()
            losses = window_losses(network, task.windows.test, what=f"it after {asked[0]:g} min")
            found.append(f"{asked.pop(0):g}:{np.exp(losses.mean()):.3f}")
            stopped[0] += tick() - before

    name = "-".join(f"{row[key]}" for key in ("pruned", "line", "minutes", "rate"))
    plan = Recovery(
        network=network,
        layers=block_layers(network),
        windows=task.windows.training,
        settings=settings,
        folder=options.out / f"state-{name}".replace(" ", ""),
        teacher=task.folder,
        clock=lambda: tick() - stopped[0],
        watch=watch,
    )
    began = time.process_time()
    recovered = _with(network, recover(plan, None))
    row |= {"steps": plan.step, "processor_seconds": round(time.process_time() - began)}
    row["curve"] = " ".join(found)
    return recovered


def _with(network: BlockNetwork, trained: PrunedBlocks) -> BlockNetwork:
    """The network with its blocks' trained tensors."""
    own = {key: one for n in range(len(network)) for key, one in trained.read(n).items()}
    before = network.tensors.read

    def read(name: str) -> Tensor:
        return own[name] if name in own else before(name)

    network.tensors.read = read  # type: ignore[method-assign]
    return network


def table(rows: pd.DataFrame) -> str:
    """Markdown: perplexity of each line on both texts, and its ratio to dense trained likewise.

    Args:
        rows: Columns pruned, line, minutes, steps, curve, processor_seconds, and losses of the
            windows in sotu and other, as in `recovery.csv`.
    """
    lines = [
        "| pruned | line | minutes | steps | on the way | addresses | x dense | x dense, trained | "
        "nats against dense, trained (95 %) | other text | x dense |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    values = {
        text: [np.array([float(v) for v in cell.split()]) for cell in rows[text]]
        for text in ("sotu", "other")
    }
    names = rows["line"].tolist()
    dense = names.index("dense")
    tuned = [place for place, name in enumerate(names) if name == "dense, fine-tune"]
    against = tuned[-1] if tuned else dense
    for place, name in enumerate(names):
        row, own = rows.iloc[place], values["sotu"][place]
        other = values["other"][place]
        x, y, z = (
            float(np.exp((mine - reference).mean()))
            for mine, reference in (
                (own, values["sotu"][dense]),
                (own, values["sotu"][against]),
                (other, values["other"][dense]),
            )
        )
        gap = own - values["sotu"][against]
        shown = "" if place == against else f"{gap.mean():+.3f} ± {interval(gap):.3f}"
        lines.append(
            f"| {row['pruned']} | {name} | {float(row['minutes']):g} | {row['steps']} | "
            f"{row['curve']} | {np.exp(own.mean()):.2f} | {x:.3f} | {y:.3f} | {shown} | "
            f"{np.exp(other.mean()):.2f} | {z:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
