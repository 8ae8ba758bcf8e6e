"""One training run in the comparison of N:M recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.pruning import NMConfig

__all__ = ["EXTRA", "NETWORKS", "RECIPES", "Run", "train"]

RECIPES = ("dense", "srste", "mdgf-lin", "mdgf-exp", "sdgf-step", "sdgf-geo")
"""Bambhaniya et al. 2025, table 2."""
EXTRA = ("ste", "srste-decoupled")
"""Others that may be asked for."""
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_at_cifar10", {"patch": 4, "width": 256, "depth": 3, "heads": 4}),
    "small-vit": ("vit_at_cifar10", {"patch": 8, "depth": 3}),
    "swin": ("swin_at_cifar10", {}),
}
"""Name -> experiment and its flags; the path of an experiment file is a name too."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        network: Name in `NETWORKS`, or an experiment's file.
        recipe: Name in `RECIPES`.
        pattern: With its place, such as `1:8@ff`; `dense` for none.
        seed: Weights, order and augmentation.
        epochs: Length.
        batch: Images a step.
    """

    network: str
    recipe: str
    pattern: str
    seed: int
    epochs: float
    batch: int

    @property
    def name(self) -> str:
        """File name without its ending."""
        pattern = "".join(c if c.isalnum() else "-" for c in self.pattern)
        length = f"{self.epochs:g}x{self.batch}"  # another length is another checkpoint
        return f"{Path(self.network).stem}-{self.recipe}-{pattern}-{length}-{self.seed}"


def method_of(run: Run) -> NMConfig | None:
    """Settings of a recipe; None for dense. A twentieth is dense, a fifth fine-tuning."""
    from ws_learner.pruning import MdgfConfig, SdgfConfig, SrSteConfig, parse_pattern

    if run.recipe == "dense":
        return None
    pattern = parse_pattern(run.pattern)
    methods: dict[str, Callable[..., NMConfig]] = {
        "srste": SrSteConfig,
        "ste": partial(SrSteConfig, weight=0.0),
        "srste-decoupled": partial(SrSteConfig, term="decoupled", weight=0.2),
        "mdgf-lin": partial(MdgfConfig, decay="linear"),
        "mdgf-exp": partial(MdgfConfig, decay="exponential"),
        "sdgf-step": partial(SdgfConfig, shape="stepwise"),
        "sdgf-geo": partial(SdgfConfig, shape="geometric"),
    }
    return methods[run.recipe](pattern=pattern, dense=0.05)


def _experiment(run: Run) -> Experiment:
    from experiments.cli.discovery import find_experiment

    name, settings = NETWORKS.get(run.network, (run.network, {}))
    module = find_experiment(name)
    experiment: Experiment = module.build(module.Options(**settings), seed=run.seed)
    return experiment


def train(run: Run, *, state: Path) -> dict[str, Any]:
    """Train and measure; resumes from the checkpoint in `state`, if there is one."""
    from benchmarks.nm_probe import Probe
    from ws_learner.config import WeightSparseConfig
    from ws_learner.core import choose_device
    from ws_learner.pruning import Sparsifier
    from ws_learner.report import MetricsLog
    from ws_learner.training import MetricsCallback, TrainingPhase, build_training_loss, evaluate

    experiment, chosen, method = _experiment(run), choose_device(), method_of(run)
    recipe = dataclasses.replace(
        experiment.sparse_recipe, nb_epochs=run.epochs, batch_size=run.batch
    )
    model, data = experiment.model, experiment.data
    total = recipe.total_steps(len(data.train))
    sparsifier = None
    if method is not None:
        zeros = method.targets(model)
        sparsifier = Sparsifier(model, method, zeros=zeros, total_steps=total)
    probe = Probe(sparsifier, watched=_ff(model) if sparsifier is None else sparsifier.masks)
    log = MetricsLog(state / f"{run.name}.csv")
    phase = TrainingPhase(
        phase=run.name,
        data=data,
        criterion=build_training_loss(experiment.loss, teacher=None, config=WeightSparseConfig()),
        metric=experiment.metric,
        recipe=recipe,
        compute=chosen,
        seed=run.seed,
        log=log,
        checkpoint=state / f"{run.name}.pt",
    )
    also = {"probe": probe} | ({"sparsifier": sparsifier} if sparsifier else {})
    metrics = MetricsCallback(log, phase=run.name, metric=experiment.metric)
    seconds = phase.run(model, before=[probe], also=also, metrics=metrics)
    if sparsifier is not None:
        sparsifier.finalize()
    found = {name: int((model.get_parameter(name) == 0).sum()) for name in probe.watched}
    return dataclasses.asdict(run) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "zeros": sum(found.values()),
        "steps": total,
        "seconds": round(seconds, 1),
        "epoch_seconds": [round(value, 3) for value in probe.seconds],
        "test": evaluate(model, data.test, experiment.metric, compute=chosen),
        "device": chosen.device,
        "bf16": chosen.bf16,
        "curves": [[float(f"{value:.4g}") for value in row] for row in probe.rows()],
    }


def _ff(model: nn.Module) -> list[str]:
    from ws_learner.pruning import weight_roles

    return [name for name, roles in weight_roles(model).items() if roles == ("ff",)]
