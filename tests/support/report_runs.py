"""Folders of finished runs as a report reads them, of any size and with any names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

NAMES = ("conv1.weight", "layer1.0.conv1.weight", "fc.weight")
PROTOCOLS = ("divergence", "erk", "uniform")


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def write_run(
    folder: Path,
    *,
    names: Sequence[str] = NAMES,
    rollouts: int = 12,
    kind: str = "agent",
    **summary: Any,
) -> Path:
    """Write a finished run with every file that a report reads; entries of `summary` override."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    sizes = [int(size) for size in draw.integers(50, 5000, len(names))]
    profiles = [[int(draw.integers(1, size)) for size in sizes] for _ in range(rollouts)]
    chosen = profiles[1 % rollouts]
    head = ("layer", "kind", "role", "shape", "weights", "prune_ratio", "achieved")
    ratios: list[list[object]] = [[*head, "macs", "macs_kept"]]
    for name, size, zeros in zip(names, sizes, chosen, strict=True):
        share, macs = zeros / size, 7 * size
        ratios.append(
            [name, "linear", "ff", f"{size}x1", size, share, share, macs, 7 * (size - zeros)]
        )
    _write(folder / "ratios.csv", ratios)
    rewards = [float(value) for value in draw.random(rollouts)]
    table: list[list[object]] = [
        ["rollout", "kind", "reward", "accuracy", "failed", *(f"zeros/{name}" for name in names)]
    ]
    for place, (reward, zeros) in enumerate(zip(rewards, profiles, strict=True)):
        failed = "no memory" if place == 5 else ""
        own = "" if failed else reward
        table.append([place, "prior" if place < 3 else kind, own, 0.5, failed, *zeros])
    again = [(1, 0.61), (2, 0.4)]
    table += [
        [rollouts + place, "select", reward, 0.5, "", *profiles[number % rollouts]]
        for place, (number, reward) in enumerate(again)
    ]
    _write(folder / "rollouts.csv", table)
    log: list[list[object]] = [
        ["step", "epoch", "phase", "train/loss", "prune/planned", "prune/ratio", "select/accuracy"]
    ]
    log += [[s, s / 10, "sparse", 1 / s, s / 40, s / 40, 0.5 + s / 80] for s in range(1, 21)]
    _write(folder / "metrics.csv", log)
    _write(
        folder / "protocols.csv",
        [
            ["layer", "weights", *PROTOCOLS],
            *(
                [name, size, profiles[0][place], min(size, 9), size // 2]
                for place, (name, size) in enumerate(zip(names, sizes, strict=True))
            ),
        ],
    )
    _write(
        folder / "dense.csv",
        [["layer", "weights", "reason"], ["biases", 17, "few weights"], [names[0] + "x", 5, "why"]],
    )
    messages = [
        {"level": "status", "text": "adjusted: --ws_nb_rlouts_min 20 -> 4: --num_rollouts is 8"},
        {"level": "warning", "text": f"UserWarning: {names[0]} stays dense"},
        {"level": "status", "text": "run directory: runs/one"},
        {"level": "status", "text": "adjusted: --ws_nb_rlouts_min 20 -> 4: --num_rollouts is 8"},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in messages)
    (folder / "messages.jsonl").write_text(lines + '{"level": "status", "te')
    settings = {"experiment": "net", "ws_prune_ratio": 0.9, "seed": 3, "ws_include": ["*"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    usual = settings | {"ws_prune_ratio": 0.75, "seed": 0}
    (folder / "defaults.yaml").write_text(yaml.safe_dump(usual))
    (folder / "identity.json").write_text(json.dumps({"recipe": {"nb_epochs": 2.0}}))
    (folder / "model.safetensors").write_bytes(b"0" * 12_345)
    total, zeros = sum(sizes), sum(chosen)
    facts: dict[str, Any] = {
        "experiment": "net_at_data",
        "learner": "weight-sparse",
        "protocol": "optimal",
        "method": "gradual",
        "pattern": "unstructured",
        "metric": "accuracy",
        "metric_unit": "share",
        "higher_is_better": True,
        "measured_on": "test",
        "dense_metric": 0.9237,
        "sparse_metric": 0.9112,
        "target_prune_ratio": zeros / total,
        "achieved_prune_ratio": zeros / total,
        "dense_macs": 7 * total,
        "kept_macs": 7 * (total - zeros),
        "rollouts": rollouts,
        "failed_rollouts": 1,
        "chosen_rollout": 1 % rollouts,
        "search_seconds": 71.2,
        "train_seconds": 185.8,
        "split_sizes": {"train": 44000, "search": 2000, "select": 4000, "test": 10000},
        "command": "./run_local.sh net_at_data --prune_ratio 0.9",
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "AMD EPYC", "threads": 2},
    }
    (folder / "summary.json").write_text(json.dumps(facts | summary))
    return folder


def _write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.write_text(csv_text(rows))
