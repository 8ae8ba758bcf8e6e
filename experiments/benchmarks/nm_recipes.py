"""Which N:M recipe trains a small vision transformer best? Same steps, same images, all recipes.

    python -m experiments.benchmarks.nm_recipes --epochs 20 --jobs 8 [--out DIR]
    python -m experiments.benchmarks.nm_recipes --epochs 20 --jobs 8 --timing

Trains a ViT of 2.4 million parameters on CIFAR-10 from fresh weights: dense, SR-STE, MdGf with a
linear and an exponential decay, SdGf by steps and geometric, each sparse one with 2:4, 1:4, 1:8
and 1:16 in its MLPs, three seeds. Every finished run is at once a line of DIR/runs.jsonl, and what
is there is not run again; then tables and curves are drawn from the lines. `--timing` trains three
epochs of as many runs as go side by side and says how many epochs fit into `--minutes`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.benchmarks.side_by_side import side_by_side
from ws_learner.progress import say, track

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.methods.nm_config import NMConfig

__all__ = ["RECIPES", "Run", "main", "planned", "train"]

OUT = Path(__file__).parents[1] / "results" / "nm_recipes"
RECIPES = ("dense", "srste", "mdgf-lin", "mdgf-exp", "sdgf-step", "sdgf-geo")
"""The paper's table 2; `ste` and `srste-decoupled` are there too."""
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
        return f"{Path(self.network).stem}-{self.recipe}-{pattern}-{self.seed}"


def method_of(run: Run) -> NMConfig | None:
    """Settings of a recipe; None for dense. A twentieth is dense, a fifth fine-tuning."""
    from ws_learner.methods.mdgf import MdgfConfig
    from ws_learner.methods.sdgf import SdgfConfig
    from ws_learner.methods.srste import SrSteConfig
    from ws_learner.sparsity.pattern import parse_pattern

    if run.recipe == "dense":
        return None
    common: dict[str, Any] = {"pattern": parse_pattern(run.pattern), "dense": 0.05}
    methods = {
        "srste": functools.partial(SrSteConfig),
        "ste": functools.partial(SrSteConfig, weight=0.0),
        "srste-decoupled": functools.partial(SrSteConfig, term="decoupled", weight=0.2),
        "mdgf-lin": functools.partial(MdgfConfig, decay="linear"),
        "mdgf-exp": functools.partial(MdgfConfig, decay="exponential"),
        "sdgf-step": functools.partial(SdgfConfig, shape="stepwise"),
        "sdgf-geo": functools.partial(SdgfConfig, shape="geometric"),
    }
    config: NMConfig = methods[run.recipe](**common)
    return config


def _experiment(run: Run) -> Experiment:
    from experiments.find import find_experiment

    name, settings = NETWORKS.get(run.network, (run.network, {}))
    module = find_experiment(name)
    experiment: Experiment = module.build(module.Options(**settings), seed=run.seed)
    return experiment


def train(run: Run, *, state: Path) -> dict[str, Any]:
    """Train and measure; goes on from the checkpoint in `state`, if there is one."""
    from experiments.benchmarks.nm_probe import Probe
    from ws_learner.callbacks import Metrics
    from ws_learner.config import WeightSparseConfig
    from ws_learner.evaluation import evaluate
    from ws_learner.fit import Fit
    from ws_learner.hardware import arithmetic
    from ws_learner.report.metrics import MetricsLog
    from ws_learner.sparsifier import Sparsifier
    from ws_learner.sparsify import make_criterion

    experiment, chosen, method = _experiment(run), arithmetic(), method_of(run)
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
    fit = Fit(
        phase=run.name,
        data=data,
        criterion=make_criterion(experiment.loss, teacher=None, config=WeightSparseConfig()),
        metric=experiment.metric,
        recipe=recipe,
        arithmetic=chosen,
        seed=run.seed,
        log=log,
        checkpoint=state / f"{run.name}.pt",
    )
    also = {"probe": probe} | ({"sparsifier": sparsifier} if sparsifier else {})
    metrics = Metrics(log, phase=run.name, metric=experiment.metric)
    seconds = fit.run(model, before=[probe], also=also, metrics=metrics)
    if sparsifier is not None:
        sparsifier.finalize()
    found = {name: int((model.get_parameter(name) == 0).sum()) for name in probe.watched}
    return dataclasses.asdict(run) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "zeros": sum(found.values()),
        "steps": total,
        "seconds": round(seconds, 1),
        "epoch_seconds": [round(value, 3) for value in probe.seconds],
        "test": evaluate(model, data.test, experiment.metric, arithmetic=chosen),
        "device": chosen.device,
        "bf16": chosen.bf16,
        "curves": [[float(f"{value:.4g}") for value in row] for row in probe.rows()],
    }


def _ff(model: nn.Module) -> list[str]:
    from ws_learner.roles import weight_roles

    return [name for name, roles in weight_roles(model).items() if roles == ("ff",)]


def planned(options: argparse.Namespace) -> list[Run]:
    """The runs asked for: all of one seed before the next, so that seeds are whole."""
    patterns = [f"{pattern}@{options.where}" for pattern in options.patterns.split()]
    return [
        Run(
            network=options.network,
            recipe=recipe,
            pattern=pattern,
            seed=seed,
            epochs=options.epochs,
            batch=options.batch,
        )
        for seed in range(options.seeds)
        for recipe in options.recipes.split()
        for pattern in (["dense"] if recipe == "dense" else patterns)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="vit", help=f"{', '.join(NETWORKS)}, or a file")
    parser.add_argument("--recipes", default=" ".join(RECIPES), help="names, separated by blanks")
    parser.add_argument("--patterns", default="2:4 1:4 1:8 1:16", help="of the sparse recipes")
    parser.add_argument("--where", default="ff", help="roles that are sparse (default ff)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default 3)")
    parser.add_argument("--epochs", type=float, default=20, help="of each run (default 20)")
    parser.add_argument("--batch", type=int, default=256, help="images a step (default 256)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default 1)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of runs.jsonl and figures")
    parser.add_argument("--state", type=Path, help="folder of the checkpoints (default: temporary)")
    parser.add_argument("--timing", action="store_true", help="only say how long an epoch takes")
    parser.add_argument("--minutes", type=float, default=8, help="that `--timing` plans for")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, then write the tables and the figures; 1 if a run failed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        state = options.state or Path(temporary)
        state.mkdir(parents=True, exist_ok=True)
        if options.timing:
            return _timing(planned(options), options, state=state)
        return _train_missing(planned(options), options, state=state)


def _train_missing(runs: Sequence[Run], options: argparse.Namespace, *, state: Path) -> int:
    from experiments.benchmarks.nm_report import add_run, read_runs, write_report

    fields = [item.name for item in dataclasses.fields(Run)]
    known = [{name: row[name] for name in fields} for row in read_runs(options.out)]
    missing = [run for run in runs if dataclasses.asdict(run) not in known]
    failed = 0
    with track("runs", total=len(runs), done=len(runs) - len(missing)) as progress:
        work = functools.partial(train, state=state)
        for run, row in side_by_side(work, missing, jobs=options.jobs):
            if isinstance(row, Exception):
                failed += 1
                say(f"{run.name}: {type(row).__name__}: {row}")
                continue
            add_run(options.out, row)
            progress.advance(note=f"{run.name}: {row['test']:.2%} in {row['seconds']:.0f} s")
    write_report(options.out)
    return int(failed > 0)


def _timing(runs: Sequence[Run], options: argparse.Namespace, *, state: Path) -> int:
    """Three epochs of the sparse runs that come last, as many as go side by side."""
    short = [dataclasses.replace(run, epochs=3) for run in runs[-options.jobs :]]
    begun = time.monotonic()
    rows = [
        row
        for _, row in side_by_side(functools.partial(train, state=state), short, jobs=options.jobs)
    ]
    wall = time.monotonic() - begun
    for row in rows:
        if isinstance(row, Exception):
            raise row
    found = [row["epoch_seconds"] for row in rows if not isinstance(row, Exception)]
    epoch = statistics.median(seconds[1] for seconds in found)
    beside = max(wall - sum(statistics.median(column) for column in zip(*found, strict=True)), 0)
    turns = len(runs) / len(short)
    epochs = int((60 * options.minutes - beside) / turns / epoch)
    print(
        f"{len(short)} side by side: an epoch takes {epoch:.2f} s, start and end {beside:.1f} s, "
        f"steps {rows[0]['steps'] // 3} an epoch.\n"  # type: ignore[index]
        f"{len(runs)} runs of {options.epochs:g} epochs: "
        f"{(turns * options.epochs * epoch + beside) / 60:.1f} minutes.\n"
        f"Into {options.minutes:g} minutes go about {epochs} epochs."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
