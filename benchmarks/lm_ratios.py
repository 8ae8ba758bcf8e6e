"""Ratios of the blocks of SmolLM2-135M by protocol: perplexity at equal zeros, paired by window.

    python -m benchmarks.lm_ratios
    python -m benchmarks.lm_ratios --quick

Every protocol sees the same calibration and search windows, and its ratios are pruned by the same
solver. The differences are from uniform, owl and progression at the same target, in nats a token,
with Student's 95 % interval over the test windows. Searches of one target share the database of
pruned blocks and all that was measured of it. Each line is written to `rows.csv` when it is
finished; the same command resumes. `--quick` prunes a random network of two blocks, in a minute.
The network is the de-quantised Q4_1 one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lm_ratios_table import table
from benchmarks.readings_file import ReadingsFile
from envs import IntArray
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, write_text
from ws_learner.language import (
    BlockLayer,
    BlockNetwork,
    LanguageSettings,
    RatioFiles,
    RewardName,
    WalkPlan,
    Windows,
    allocate,
    block_layers,
    marginal_ratios,
    prune_blocks,
    survey_network,
    window_losses,
)
from ws_learner.pruning import parse_pattern

__all__ = ["CELLS", "Cell", "Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How ratios are chosen.

    Attributes:
        protocol: A protocol of language models; `slope X` is a ratio that rises by X over depth.
        reward: What a search judges by.
        only_at: The one target; None: all.
    """

    protocol: str
    reward: RewardName = "kl"
    only_at: float | None = None

    @property
    def name(self) -> str:
        """The protocol, with its reward if it is not KL divergence."""
        return self.protocol if self.reward == "kl" else f"{self.protocol}, {self.reward}"


CELLS = (
    *(Cell(protocol=name) for name in ("uniform", "owl", "progression", "slope 0.2")),
    *(Cell(protocol=name) for name in ("marginal", "bayesian", "optimal")),
    *(Cell(protocol=name) for name in ("divergence", "knapsack")),
    *(Cell(protocol="bayesian", reward=reward, only_at=0.7) for reward in ("tv", "perplexity")),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare protocols for the ratios of a language model's blocks.

    Attributes:
        targets: Shares of zeros.
        solver: Prunes every layer.
        calibration: Calibration windows of 512 tokens.
        search: Search windows.
        own: Search windows on which each block is pruned alone; for owl, progression, divergence.
        select: Windows on which the best profiles of a search are scored again.
        test: Held-out windows.
        rollouts: Of a search.
        only: Names of lines that run now; by default all.
        quick: A random network of two blocks instead, and few rollouts.
        state: Folder of what can be used again: 2 GB for a target of SmolLM2.
        out: Folder of the tables.
    """

    targets: tuple[float, ...] = (0.7, 0.6)
    solver: str = "sparsegpt"
    calibration: int = 8
    search: int = 2
    own: int = 1
    select: int = 4
    test: int = 24
    rollouts: int = 40
    only: tuple[str, ...] = ()
    quick: bool = False
    state: Path = Path("runs/lm_ratios")
    out: Path = Path("experiments/results/lm_ratios")


def main(options: Options) -> None:
    """Run what is missing, then write the table."""
    torch.set_num_threads(1)
    if options.quick:
        options = replace(
            options, rollouts=16, out=options.state / "quick", state=options.state / "quick"
        )
    kind = f"{options.calibration}-{options.search}-{options.own}-{options.select}"
    options = replace(options, state=options.state / kind)
    options.out.mkdir(parents=True, exist_ok=True)
    readings = ReadingsFile(options.out / "rows.csv")
    done = {(row["protocol"], float(row["target"]), row["solver"]) for row in readings.rows()}
    network, windows = _quick(options) if options.quick else _smollm2(options)
    for row in readings.rows():
        if len(row["nats"].split()) != len(windows.test):
            raise UserError(f"`out` {options.out}: has rows of other windows; give a new folder")
    if ("dense", 0.0, "") not in done:
        losses = window_losses(network, windows.test, what="the dense network")
        readings.add(_row("dense", 0.0, "", losses))
    for target, cell in _cells(options):
        if (cell.name, target, options.solver) not in done:
            readings.add(_run(network, windows, options, target=target, cell=cell))
    write_text(options.out / "table.md", table(readings.rows()))


def _cells(options: Options) -> Iterator[tuple[float, Cell]]:
    for target in options.targets:
        for cell in CELLS:
            asked = not options.only or cell.name in options.only
            if asked and cell.only_at in (None, target):
                yield target, cell


def _run(
    network: BlockNetwork, windows: Windows, options: Options, *, target: float, cell: Cell
) -> dict[str, float | str]:
    """Choose ratios, prune, measure."""
    layers, pattern = block_layers(network), parse_pattern("unstructured")
    folder = options.state / f"{target:g}"
    folder.mkdir(parents=True, exist_ok=True)
    survey_network(
        network,
        layers,
        replace(windows, search=windows.search[: options.own]),
        pattern=pattern,
        own=True,
        errors=True,
        kept=options.state / "survey.pt",  # for all protocols and targets
    )
    began = time.process_time()
    zeros = _zeros(network, windows, options, target=target, cell=cell)
    chosen = time.process_time()
    plan = WalkPlan(layers=layers, zeros=zeros.tolist(), pattern=pattern, solver=options.solver)
    place = folder / f"walk-{cell.name}-{options.solver}"
    pruned = prune_blocks(network, windows.calibration, plan, folder=place)
    walked = time.process_time()
    losses = window_losses(network, windows.test, what=f"{cell.name} at {target:g}", changed=pruned)
    shutil.rmtree(place)
    return _row(cell.name, target, options.solver, losses) | {
        "zeros": f"{zeros.sum() / sum(layer.row.weights for layer in layers):.6f}",
        "choosing_seconds": f"{chosen - began:.0f}",
        "pruning_seconds": f"{walked - chosen:.0f}",
        "ratios": " ".join(f"{value:.3f}" for value in _by_block(layers, zeros, len(network))),
    }


def _zeros(
    network: BlockNetwork, windows: Windows, options: Options, *, target: float, cell: Cell
) -> IntArray:
    """(L,) zeros of each layer."""
    layers, folder = block_layers(network), options.state / f"{target:g}"
    config: dict[str, Any] = {"ws_prune_ratio": target, "ws_nb_rlouts": options.rollouts}
    if cell.protocol == "marginal":
        return marginal_ratios(
            network,
            layers,
            windows,
            pattern=parse_pattern("unstructured"),
            target=target,
            folder=folder / "database",
        )
    if cell.protocol.startswith("slope"):
        slope = float(cell.protocol.split()[1])
        config = {"ws_ratios": _rising(layers, len(network), target, slope)}
    else:
        config["ws_prune_ratio_prtl"] = cell.protocol
    return allocate(
        network,
        layers,
        config=WeightSparseConfig(**config),
        settings=LanguageSettings(search_reward=cell.reward),
        windows=windows,
        files=RatioFiles(
            survey=options.state / "survey.pt",
            database=folder / "database",
            search=folder / f"{cell.name}.pt",
            table=folder / f"{cell.name}.csv",
        ),
    )


def _row(name: str, target: float, solver: str, losses: Any) -> dict[str, float | str]:
    return {
        "protocol": name,
        "target": target,
        "solver": solver,
        "perplexity": f"{np.exp(losses.mean()):.3f}",
        "nats": " ".join(f"{value:.5f}" for value in losses),
        "zeros": "0",
        "choosing_seconds": "0",
        "pruning_seconds": "0",
        "ratios": "",
    }


def _rising(
    layers: tuple[BlockLayer, ...], blocks: int, target: float, slope: float
) -> dict[str, float]:
    offsets = np.linspace(-slope / 2, slope / 2, blocks)
    return {layer.key: float(target + offsets[layer.block]) for layer in layers}


def _by_block(layers: tuple[BlockLayer, ...], zeros: IntArray, blocks: int) -> list[float]:
    parts = []
    for number in range(blocks):
        own = [place for place, layer in enumerate(layers) if layer.block == number]
        parts.append(float(zeros[own].sum() / sum(layers[place].row.weights for place in own)))
    return parts


def _smollm2(options: Options) -> tuple[BlockNetwork, Windows]:
    from experiments.smollm_at_sotu import Options as Settings
    from experiments.smollm_at_sotu import language_task

    task = language_task(
        Settings(
            calibration_windows=options.calibration,
            search_windows=options.search,
            select_windows=options.select,
            test_windows=options.test,
        )
    )
    return task.network, task.windows


def _quick(options: Options) -> tuple[BlockNetwork, Windows]:
    """A random Llama, and random tokens."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    folder = options.state / "network"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokens = torch.randint(0, 300, (16, 32), generator=torch.Generator().manual_seed(1))
    parts = torch.split(tokens, 4)
    return BlockNetwork(folder), Windows(
        calibration=parts[0], search=parts[1][:2], select=parts[1][2:], test=parts[2]
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
