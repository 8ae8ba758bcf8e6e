"""Latency predicted by a table of costs against the measured one, of pruned networks.

    python -m benchmarks.predicted_latency [--only resnet20 mlp] [--batches 1 16] [--seeds 3]
        [--out experiments/results/predicted_latency]

Each network is pruned once by magnitude, every layer by a pattern and ratio of its own, drawn at
random between 50 and 95 %. Weights are random, speed does not depend on them. The table never sees
the pruned network. One thread, processor time.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import platform
import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner.core import LayerChoice, NumberFormat, UserError, say, suggest, write_text
from ws_learner.deploy import CostTable, cpu_key, measure_costs, measure_together
from ws_learner.pruning import build_pattern_plan, layer_table, magnitude, parse_pattern

__all__ = ["NETWORKS", "main", "rows_of"]

_PATTERNS = ("unstructured", "4x1", "16x4")
_RATIOS = (0.5, 0.95)
_FORMATS: tuple[NumberFormat, ...] = ("fp32", "int8")
_KINDS = (*_FORMATS, "mixed")
_WITHIN = 0.1


def _resnet20(batch: int) -> tuple[nn.Module, Tensor]:
    from experiments.models.resnet_cifar import resnet_cifar

    return resnet_cifar(20), torch.randn(batch, 3, 32, 32)


def _vgg_like(batch: int) -> tuple[nn.Module, Tensor]:
    from benchmarks.keras_vgg import VggLike

    return VggLike(), torch.rand(batch, 3, 32, 32)


def _digits(batch: int) -> tuple[nn.Module, Tensor]:
    from benchmarks.digit_recogniser import DigitCnn

    return DigitCnn(), torch.randn(batch, 1, 28, 28)


def _minilm(batch: int) -> tuple[nn.Module, Tensor]:
    from experiments.models.sentence_bert import build_classifier

    return build_classifier((6, 384, 12, 1536), 6), torch.randint(1000, 30522, (batch, 32))


def _dlrm(batch: int) -> tuple[nn.Module, Tensor]:
    from experiments.dlrm_at_movielens import BOTTOM, NUMBERS, TOP
    from experiments.models.dlrm import DLRM, OneInput
    from ws_learner.data import CARDINALITIES

    categories = [torch.randint(0, n, (batch, 1)) for n in CARDINALITIES]
    rows = torch.cat([torch.rand(batch, NUMBERS), *(c.float() for c in categories)], 1)
    return OneInput(DLRM(CARDINALITIES, bottom=BOTTOM, top=TOP), numbers=NUMBERS), rows


def _mlp(batch: int) -> tuple[nn.Module, Tensor]:
    widths = (784, 1024, 1024, 1024, 10)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]), torch.randn(batch, widths[0])


NETWORKS: dict[str, Callable[[int], tuple[nn.Module, Tensor]]] = {
    "resnet20": _resnet20,
    "vgg_like": _vgg_like,
    "digits": _digits,
    "minilm": _minilm,
    "dlrm": _dlrm,
    "mlp": _mlp,
}


def rows_of(name: str, batch: int, *, seeds: int, cache_dir: Path | None) -> list[dict[str, Any]]:
    """Measure the table of one network, then `seeds` pruned networks in each format."""
    torch.manual_seed(0)
    model, inputs = NETWORKS[name](batch)
    model = model.eval()
    layers = layer_table(model, inputs)
    choices = [_choices(row) for row in layers]
    table = measure_costs(model, inputs, layers, choices, engine="wsr", cache_dir=cache_dir)
    rows = []
    for seed in range(seeds):
        profiles = {kind: _profile(layers, kind, seed=seed) for kind in _KINDS}
        for kind, row in _measured(model, inputs, layers, profiles, table).items():
            rows.append({"network": name, "batch": batch, "dtype": kind, "seed": seed} | row)
            say(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    return rows


def _choices(row: LayerRow) -> list[LayerChoice]:
    made = itertools.product(_PATTERNS, (0.0, 0.5, 0.7, 0.9), _FORMATS)
    return [_choice(row, pattern, ratio, dtype) for pattern, ratio, dtype in made]


def _choice(row: LayerRow, pattern: str, ratio: float, dtype: NumberFormat) -> LayerChoice:
    zeros = parse_pattern(pattern).feasible(row.shape, round(ratio * row.weights))
    return LayerChoice(pattern=pattern, zeros=zeros, dtype=dtype)


def _profile(layers: Sequence[LayerRow], kind: str, *, seed: int) -> list[LayerChoice]:
    """A random choice for each layer, its format random too if `kind` is `mixed`."""
    draw, formats = random.Random(seed), random.Random(seed)
    found = []
    for row in layers:
        pattern, ratio = draw.choice(_PATTERNS), draw.uniform(*_RATIOS)
        dtype = formats.choice(_FORMATS) if kind == "mixed" else kind
        found.append(_choice(row, pattern, ratio, dtype))  # type: ignore[arg-type]
    return found


def _measured(
    model: nn.Module,
    inputs: Tensor,
    layers: Sequence[LayerRow],
    profiles: Mapping[str, Sequence[LayerChoice]],
    table: CostTable,
) -> dict[str, dict[str, Any]]:
    """A row for each profile; all networks are timed in turn with the dense one."""
    networks: dict[str, Any] = {"dense": (model, "fp32")}
    for kind, profile in profiles.items():
        formats = {row.name: choice.dtype for row, choice in zip(layers, profile, strict=True)}
        networks[kind] = _pruned(model, layers, profile), formats
    found = measure_together(networks, inputs, engine="wsr")
    dense = found["dense"].median_ms
    assert table.dense_ms is not None
    rows = {}
    for kind, profile in profiles.items():
        predicted, measured = table.predict(profile), found[kind].median_ms
        rows[kind] = {
            "table_dense_ms": table.dense_ms,
            "predicted_ms": predicted,
            "dense_ms": dense,
            "measured_ms": measured,
            "predicted_share": predicted / table.dense_ms,
            "measured_share": measured / dense,
            "error": predicted / table.dense_ms / (measured / dense) - 1,
            "error_ms": predicted / measured - 1,
            "spread": found[kind].spread,
            "runs": found[kind].how,
        }
    return rows


@torch.no_grad()
def _pruned(
    model: nn.Module, layers: Sequence[LayerRow], profile: Sequence[LayerChoice]
) -> nn.Module:
    model = copy.deepcopy(model)
    for row, choice in zip(layers, profile, strict=True):
        plan = build_pattern_plan(model, [row.name], pattern=choice.pattern)
        weight = model.get_parameter(row.name)
        masks = plan.masks({row.name: magnitude(weight)}, {row.name: choice.zeros})
        weight.mul_(masks[row.name])
    return model


def _markdown(frame: Any, command: str) -> str:
    frame = frame.assign(miss=frame["error"].abs())
    table = frame.groupby(["network", "batch", "dtype"], sort=False).agg(
        networks=("miss", "size"),
        dense_ms=("dense_ms", "first"),
        predicted_share=("predicted_share", "median"),
        measured_share=("measured_share", "median"),
        median_miss=("miss", "median"),
        largest_miss=("miss", "max"),
    )
    for column in ("median_miss", "largest_miss"):
        table[column] = (100 * table[column]).map(lambda share: f"{share:.1f} %")
    good = int((frame["miss"] <= _WITHIN).sum())
    lines = [
        "# Predicted and measured latency",
        "",
        f"`{command}`, commit {_commit()}",
        "",
        f"{cpu_key()}; Python {platform.python_version()}, torch {torch.__version__}. One thread, "
        "processor time, a machine that others used meanwhile. Engine `wsr`. Each network is "
        "pruned once by magnitude, every layer by a random pattern of "
        f"{', '.join(_PATTERNS)} and a random ratio of {_RATIOS[0]:.0%} to {_RATIOS[1]:.0%}.",
        "",
        f"Within {_WITHIN:.0%}: {good} of {len(frame)} networks.",
        "",
        table.reset_index().to_markdown(index=False, floatfmt=".3f"),
        "",
        "All rows: [predicted_latency.csv](predicted_latency.csv). `runs` says `dense` where "
        "`compile_sparse` kept the dense network.",
    ]
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write CSV and Markdown."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), help="networks")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], help="default 1 16")
    parser.add_argument("--seeds", type=int, default=3, help="pruned networks each (default 3)")
    parser.add_argument("--cache_dir", type=Path, help="of the table's measurements")
    parser.add_argument("--out", type=Path, help="folder of the results")
    given = parser.parse_args(arguments)
    for name in given.only:
        if name not in NETWORKS:
            raise UserError(f"--only {name}: {suggest(name, NETWORKS)}")
    frame = _read(given.out)
    for batch, name in itertools.product(given.batches, given.only):
        if ((frame["network"] == name) & (frame["batch"] == batch)).any():
            say(f"{name}, batch {batch}: measured before; delete its lines to measure again")
            continue
        rows = rows_of(name, batch, seeds=given.seeds, cache_dir=given.cache_dir)
        frame = pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
        if given.out:
            _write(frame, given)
    print(_markdown(frame, _command(given)))
    return 0


def _read(folder: Path | None) -> Any:
    import pandas as pd

    path = folder / "predicted_latency.csv" if folder else None
    if path is None or not path.exists():
        return pd.DataFrame({"network": [], "batch": []})
    return pd.read_csv(path)


def _write(frame: Any, given: argparse.Namespace) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    write_text(given.out / "predicted_latency.csv", frame.to_csv(index=False, float_format="%.5g"))
    write_text(given.out / "README.md", _markdown(frame, _command(given)))


def _command(given: argparse.Namespace) -> str:
    words = ["python -m benchmarks.predicted_latency", f"--seeds {given.seeds}"]
    if list(given.only) != list(NETWORKS):
        words.append(f"--only {' '.join(given.only)}")
    return " ".join(words)


if __name__ == "__main__":
    raise SystemExit(main())
