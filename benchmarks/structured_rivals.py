"""Structured pruning to a latency in ONNX Runtime: this library against Torch-Pruning.

    python -m benchmarks.structured_rivals [--networks resnet20 vgg] [--shares 0.5 0.35]
        [--seeds 0 1] [--steps 250] [--out experiments/results/structured_rivals]

All networks start from the same dense weights and are physically smaller. Torch-Pruning 1.6.1
prunes by GroupMagnitudeImportance, uniformly or globally, with and without rounding to 8 channels;
its ratio is found by bisection, until the network is as fast as ours within 2 %. Then every
network is trained by the same recipe, for the same steps and seed, and measured on the test split.
Rows are added to `rows.csv`; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment

__all__ = ["main"]

_ENGINE = "onnxruntime"
_OURS, _CLOSED = "ours", "ours, without rollouts"
_RIVALS: dict[str, dict[str, Any]] = {
    "torch-pruning uniform": {},
    "torch-pruning global": {"global_pruning": True},
    "torch-pruning uniform, round_to 8": {"round_to": 8},
    "torch-pruning global, round_to 8": {"global_pruning": True, "round_to": 8},
}
_TOLERANCE = 0.02
_SCANNED = 40
_KEYS = ("network", "share", "seed", "entrant", "steps")


@dataclass(frozen=True, eq=False)
class _Entrant:
    """A network before its training."""

    name: str
    model: nn.Module
    about: dict[str, Any]


class _Subject:
    """A dense network with data, and what is known of its latency."""

    def __init__(self, name: str) -> None:
        import torch

        from ws_learner.deploy import engine_unit_costs, find_coupled_units
        from ws_learner.search import database_dir

        self.name = name
        self.experiment = _load(name)
        self.model = self.experiment.model.eval()
        self.example = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.pair = torch.cat([self.example, self.example.flip(3)])
        self.sets = find_coupled_units(self.model, self.pair).sets
        self.costs = engine_unit_costs(
            self.model, self.example, self.sets, engine=_ENGINE, cache_dir=database_dir()
        )

    def ours(self, share: float, *, seed: int, searches: bool) -> _Entrant:
        """This library's network."""
        from ws_learner.deploy import shrink, shrunk_ms
        from ws_learner.search import structured_profile

        begun = time.process_time()
        profile = structured_profile(
            self.model,
            self.experiment.data,
            sets=self.sets,
            costs=self.costs,
            budget=share * self.costs.dense_ms,
            loss=self.experiment.loss,
            metric=self.experiment.metric,
            measure=lambda network: shrunk_ms(network, self.example, engine=_ENGINE),
            nb_rollouts=16 if searches else 2,
            seed=seed,
        )
        about = {
            "predicted_ms": profile.predicted,
            "divergence": profile.divergence,
            "setting": " ".join(f"{name}={n}" for name, n in profile.kept.items()),
            "prune_seconds": time.process_time() - begun,
        }
        slim = shrink(profile.model, self.pair).model
        return _Entrant(_OURS if searches else _CLOSED, slim, about)

    def rival(self, name: str, like: _Entrant) -> _Entrant:
        """Torch-Pruning's network that is as fast as ours."""
        begun = time.process_time()
        tried: list[tuple[float, float]] = []
        low, high = 0.0, 0.97
        for _ in range(14):
            middle = (low + high) / 2
            over = self.ratio(self._torch_pruned(middle, _RIVALS[name]), like.model)
            tried.append((middle, over))
            if abs(over - 1) <= _TOLERANCE / 2:
                break
            low, high = (middle, high) if over > 1 else (low, middle)
        if all(abs(over - 1) > _TOLERANCE for _, over in tried):  # times are no steady curve
            for step in range(1, _SCANNED):
                ratio = step / _SCANNED
                network = self._torch_pruned(ratio, _RIVALS[name])
                tried.append((ratio, self.ratio(network, like.model)))
        # Of those that are as fast the nearest; a staircase may have none, then the next slower.
        near = [pair for pair in tried if abs(pair[1] - 1) <= _TOLERANCE]
        slower = [pair for pair in tried if pair[1] > 1]
        ratio, _ = min(near or slower or tried, key=lambda pair: abs(pair[1] - 1))
        slim = self._torch_pruned(ratio, _RIVALS[name])
        about = {"setting": f"pruning_ratio={ratio:.4f}"}
        about["prune_seconds"] = time.process_time() - begun  # type: ignore[assignment]
        return _Entrant(name, slim, about)

    def _torch_pruned(self, ratio: float, options: dict[str, Any]) -> nn.Module:
        from torch import nn

        tp = importlib.import_module("torch_pruning")

        network = copy.deepcopy(self.model)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        pruner = tp.pruner.BasePruner(
            network,
            self.pair,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[last],
            **options,
        )
        pruner.step()
        return network.eval()

    def ms(self, model: nn.Module) -> float:
        """Milliseconds of one image."""
        from ws_learner.deploy import network_ms

        return network_ms(model, self.example, engine=_ENGINE)

    def ratio(self, model: nn.Module, other: nn.Module) -> float:
        """Time of `model` over that of `other`, measured in turn."""
        from benchmarks.sparse_measure import Timing
        from ws_learner.deploy import engine_run

        one, two = (engine_run(net, self.example, engine=_ENGINE) for net in (model, other))
        return Timing(rounds=21, threads=1).ratio(one, two).median

    def trained(self, model: nn.Module, *, steps: int, seed: int) -> tuple[float, float]:
        """Accuracy before the training on the search split, after it on the test split."""
        from ws_learner.config import WeightSparseConfig
        from ws_learner.core import choose_device
        from ws_learner.report import MetricsLog
        from ws_learner.training import TrainingPhase, build_training_loss, evaluate

        experiment, chosen = self.experiment, choose_device("fp32")
        network = copy.deepcopy(model)
        before = evaluate(network, experiment.data.search, experiment.metric, compute=chosen)
        recipe = experiment.sparse_recipe
        epochs = steps * recipe.batch_size / len(experiment.data.train)
        criterion = build_training_loss(experiment.loss, teacher=None, config=WeightSparseConfig())
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.devnull, "w") as nowhere,
            redirect_stderr(nowhere),
        ):
            TrainingPhase(
                phase="sparse",
                data=experiment.data,
                criterion=criterion,
                metric=experiment.metric,
                recipe=replace(recipe, nb_epochs=epochs),
                compute=chosen,
                seed=seed,
                log=MetricsLog(Path(folder) / "metrics.csv"),
                checkpoint=Path(folder) / "sparse.pt",
            ).run(network)
        return before, evaluate(network, experiment.data.test, experiment.metric, compute=chosen)


def _load(name: str) -> Experiment:
    from benchmarks.keras_vgg import load_vgg_like
    from experiments.cli.dense_weights import load_weights
    from experiments.resnet_at_cifar10 import Options, build

    if name == "vgg":
        return load_vgg_like()
    experiment = build(Options(), seed=0)
    assert experiment.checkpoint is not None
    load_weights(experiment.model, experiment.checkpoint)
    return experiment


def run_all(
    *,
    networks: Sequence[str],
    shares: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    entrants: Sequence[str],
    out: Path,
) -> list[dict[str, Any]]:
    """Run what `rows.csv` does not hold yet; return all rows."""
    import pandas as pd

    from ws_learner.core import say, write_text

    table = out / "rows.csv"
    rows: list[dict[str, Any]] = []
    if table.exists():
        rows = [{str(key): value for key, value in row.items()}
                for row in pd.read_csv(table).to_dict("records")]  # fmt: skip
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for network in networks:
            subject: _Subject | None = None
            for share in shares:
                open_ = [e for e in entrants if (network, share, seed, e, steps) not in known]
                if not open_:
                    continue
                subject = subject or _Subject(network)
                ours = subject.ours(share, seed=seed, searches=True)
                for name in open_:
                    entrant = _made(subject, name, ours, share=share, seed=seed)
                    row = {"network": network, "share": share, "seed": seed, "entrant": name}
                    row |= {"steps": steps} | _measured(subject, entrant, ours, steps, seed)
                    rows.append(row)
                    write_text(table, pd.DataFrame(rows).to_csv(index=False))
                    say(f"{network} {share} {seed} {name}: {row['accuracy']:.4f}")
    return rows


def _made(subject: _Subject, name: str, ours: _Entrant, *, share: float, seed: int) -> _Entrant:
    if name == _OURS:
        return ours
    if name == _CLOSED:
        return subject.ours(share, seed=seed, searches=False)
    return subject.rival(name, ours)


def _measured(
    subject: _Subject, entrant: _Entrant, ours: _Entrant, steps: int, seed: int
) -> dict[str, Any]:
    ms, dense = subject.ms(entrant.model), subject.ms(subject.model)
    over = 1.0 if entrant is ours else subject.ratio(entrant.model, ours.model)
    begun = time.process_time()
    before, after = subject.trained(entrant.model, steps=steps, seed=seed)
    return {
        "accuracy": after,
        "accuracy_untrained": before,
        "ms": ms,
        "dense_ms": dense,
        "ms_over_ours": over,
        "params": sum(p.numel() for p in entrant.model.parameters()),
        "train_seconds": time.process_time() - begun,
        **entrant.about,
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """One table for each network and share: means over the seeds, and the least lead over them."""
    lines = []
    groups = dict.fromkeys((row["network"], row["share"]) for row in rows)
    for network, share in groups:
        own = [row for row in rows if (row["network"], row["share"]) == (network, share)]
        lead = {row["seed"]: row["accuracy"] for row in own if row["entrant"] == _OURS}
        lines += ["", f"## {network}, {share} of the dense latency", ""]
        lines += ["| entrant | accuracy | ours ahead by | untrained | ms over ours | parameters |"]
        lines += ["|---|---|---|---|---|---|"]
        for name in dict.fromkeys(row["entrant"] for row in own):
            mine = [row for row in own if row["entrant"] == name]
            gaps = [lead[r["seed"]] - r["accuracy"] for r in mine if r["seed"] in lead]
            shown = ", ".join(f"{100 * gap:+.2f}" for gap in gaps) if name != _OURS else ""
            lines.append(
                f"| {name} | {_mean(mine, 'accuracy', 100):.2f} | {shown} "
                f"| {_mean(mine, 'accuracy_untrained', 100):.2f} "
                f"| {_mean(mine, 'ms_over_ours'):.3f} | {_mean(mine, 'params'):,.0f} |"
            )
    return "\n".join(lines).strip() + "\n"


def _mean(rows: Sequence[dict[str, Any]], key: str, scale: float = 1.0) -> float:
    return scale * statistics.mean(float(row[key]) for row in rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write `rows.csv` and `README.md`."""
    import torch

    from ws_learner.core import write_text

    names = [_OURS, _CLOSED, *_RIVALS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet20", "vgg"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.35])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--entrants", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/structured_rivals"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = run_all(
        networks=options.networks,
        shares=options.shares,
        seeds=options.seeds,
        steps=options.steps,
        entrants=options.entrants,
        out=options.out,
    )
    text = markdown(rows)
    write_text(options.out / "tables.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
