"""Which N:M recipe trains a small vision transformer best? Same steps, same images, two networks.

    python -m experiments.benchmarks.nm_recipes [--epochs 2] [--seeds 2] [--out DIR]

Trains a ViT on CIFAR-10 from fresh weights: dense, SR-STE, MdGf (exponential) and SdGf (geometric)
with 1:8 in its MLPs, and a Swin: dense and MdGf with 1:8 in q and k. Every run is a JSON file in
DIR, made once; an interrupted run goes on from its checkpoint. Then the table and the curves are
drawn from the files that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws_learner.files import write_json
from ws_learner.progress import say

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.methods.nm_training import NMConfig

__all__ = ["RECIPES", "Run", "main", "train"]

OUT = Path(__file__).parents[1] / "results" / "nm_recipes"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        network: `vit` or `swin`.
        recipe: Name in `RECIPES`.
        seed: Weights, order and augmentation.
        epochs: Length.
    """

    network: str
    recipe: str
    seed: int
    epochs: float

    @property
    def name(self) -> str:
        """File name without its ending."""
        return f"{self.network}-{self.recipe}-{self.seed}"


def _recipes() -> Mapping[str, tuple[str, Any]]:
    from ws_learner.methods.mdgf import MdgfConfig
    from ws_learner.methods.sdgf import SdgfConfig
    from ws_learner.methods.srste import SrSteConfig
    from ws_learner.sparsity.pattern import parse_pattern

    ff: dict[str, Any] = {"pattern": parse_pattern("1:8@ff"), "dense": 0.05}
    qk = ff | {"pattern": parse_pattern("1:8@q,k")}
    return {
        "dense": ("", None),
        "srste": ("1:8 ff", SrSteConfig(**ff)),
        "mdgf-exp": ("1:8 ff", MdgfConfig(**ff)),
        "sdgf-geo": ("1:8 ff", SdgfConfig(**ff)),
        "mdgf-exp-qk": ("1:8 q,k", MdgfConfig(**qk)),
        "srste-decoupled": ("1:8 ff", SrSteConfig(**ff, term="decoupled", weight=0.2)),
        "ste": ("1:8 ff", SrSteConfig(**ff, weight=0.0)),
    }


RECIPES = {
    "vit": ("dense", "srste", "mdgf-exp", "sdgf-geo"),
    "swin": ("dense", "mdgf-exp-qk"),
}
"""Recipes of each network in the proof, in the order in which they run."""


def _experiment(run: Run) -> Experiment:
    from experiments import swin_at_cifar10, vit_at_cifar10

    if run.network == "swin":
        return swin_at_cifar10.build(swin_at_cifar10.Options(), seed=run.seed)
    return vit_at_cifar10.build(vit_at_cifar10.Options(patch=8, depth=3), seed=run.seed)


def train(run: Run, *, state: Path) -> dict[str, Any]:
    """Train and measure; goes on from `state`, where its checkpoint is kept."""
    from experiments.benchmarks.nm_probe import Probe
    from ws_learner.config import WeightSparseConfig
    from ws_learner.evaluation import evaluate
    from ws_learner.fit import Fit
    from ws_learner.hardware import arithmetic
    from ws_learner.report.metrics import MetricsLog
    from ws_learner.sparsifier import Sparsifier
    from ws_learner.sparsify import make_criterion

    experiment, chosen = _experiment(run), arithmetic()
    pattern, settings = _recipes()[run.recipe]
    method: NMConfig | None = settings
    recipe = dataclasses.replace(experiment.sparse_recipe, nb_epochs=run.epochs)
    model, data = experiment.model, experiment.data
    total = recipe.total_steps(len(data.train))
    sparsifier = None
    if method is not None:
        zeros = method.targets(model)
        sparsifier = Sparsifier(model, method, zeros=zeros, total_steps=total)
    probe = Probe(sparsifier, watched=_ff(model) if sparsifier is None else sparsifier.masks)
    fit = Fit(
        phase=run.name,
        data=data,
        criterion=make_criterion(experiment.loss, teacher=None, config=WeightSparseConfig()),
        metric=experiment.metric,
        recipe=recipe,
        arithmetic=chosen,
        seed=run.seed,
        log=MetricsLog(state / f"{run.name}.csv"),
        checkpoint=state / f"{run.name}.pt",
    )
    also = {"probe": probe} | ({"sparsifier": sparsifier} if sparsifier else {})
    seconds = fit.run(model, before=[probe], also=also)
    if sparsifier is not None:
        sparsifier.finalize()
    found = {name: int((model.get_parameter(name) == 0).sum()) for name in probe.watched}
    return dataclasses.asdict(run) | {
        "pattern": pattern or "dense",
        "parameters": sum(p.numel() for p in model.parameters()),
        "zeros": sum(found.values()),
        "steps": total,
        "seconds": round(seconds, 1),
        "test": evaluate(model, data.test, experiment.metric, arithmetic=chosen),
        "bf16": chosen.bf16,
        "curves": probe.rows,
    }


def _ff(model: Any) -> list[str]:
    from ws_learner.roles import weight_roles

    return [name for name, roles in weight_roles(model).items() if roles == ("ff",)]


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, then write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=float, default=2, help="of each run (default 2)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each recipe (default 2)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--state", type=Path, help="folder of the checkpoints (default: temporary)")
    parser.add_argument("--only", help="NETWORK:RECIPE, another than those of the proof")
    options = parser.parse_args(arguments)
    from experiments.benchmarks.nm_report import write_report

    runs = _runs(options.only, seeds=options.seeds, epochs=options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        state = options.state or Path(temporary)
        state.mkdir(parents=True, exist_ok=True)
        for run in runs:
            file = options.out / f"{run.name}.json"
            if not file.exists():
                write_json(file, train(run, state=state))
                write_report(options.out)
                say(f"{run.name}: done")
    write_report(options.out)
    return 0


def _runs(only: str | None, *, seeds: int, epochs: float) -> list[Run]:
    pairs = [(net, recipe) for net, recipes in RECIPES.items() for recipe in recipes]
    if only:
        network, _, recipe = only.partition(":")
        pairs = [(network, recipe)]
    return [
        Run(network=network, recipe=recipe, seed=seed, epochs=epochs)
        for seed in range(seeds)
        for network, recipe in pairs
    ]


if __name__ == "__main__":
    raise SystemExit(main())
