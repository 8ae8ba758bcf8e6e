"""Accuracy of the same gradual pruning on 1, 2 and 4 ranks, paired by seed.

    python -m benchmarks.world_size [--seeds 0 1 2] [--sizes 1 2 4]

ResNet-20 on CIFAR-10 from its committed dense weights, `heurist` profile, 75 %, one epoch. The
ranks are processes of this machine, one thread each, that train as Ray's do (over gloo).
Rows that the table holds already are not computed again, so an interrupted call resumes.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Options", "compared", "main", "train"]

TARGET, NB_EPOCHS = 0.75, 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Accuracy at other world sizes.

    Attributes:
        sizes: Numbers of ranks; the first is the reference.
        seeds: Each fixes order and augmentation of the images.
        nb_epochs: Epochs of the training.
        out: Folder of the table.
    """

    sizes: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    nb_epochs: float = NB_EPOCHS
    out: Path = Path("runs/world_size")


def main(options: Options) -> None:
    """Train what the table does not hold yet; print means and paired differences."""
    import pandas as pd

    from ws_learner.core import write_text

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "runs.csv"
    rows: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    for seed in options.seeds:
        for size in options.sizes:
            if not any(row["seed"] == seed and row["ranks"] == size for row in rows):
                found = train(size=size, seed=seed, nb_epochs=options.nb_epochs)
                rows.append({"seed": seed, "ranks": size} | found)
                write_text(path, pd.DataFrame(rows).to_csv(index=False))
    print(compared(pd.DataFrame(rows), reference=options.sizes[0]))


def train(*, size: int, seed: int, nb_epochs: float = NB_EPOCHS) -> dict[str, float]:
    """Prune on `size` ranks; return the test accuracy in [0, 1] and the seconds it took."""
    from torch.multiprocessing.spawn import spawn

    from ws_learner.core import read_json

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        given = (size, seed, nb_epochs, Path(folder))
        spawn(_rank, given, nprocs=size)  # type: ignore[no-untyped-call]
        accuracy: float = read_json(Path(folder) / "accuracy.json")
    return {"accuracy": accuracy, "seconds": round(time.monotonic() - begun, 1)}


def _rank(rank: int, size: int, seed: int, nb_epochs: float, folder: Path) -> None:
    """One process of the training; rank 0 measures and writes."""
    import torch
    from torch import distributed

    from benchmarks.cifar_task import load_task
    from ws_learner import WeightSparseConfig
    from ws_learner.core import ProcessGroup, choose_device, write_json
    from ws_learner.report import MetricsLog
    from ws_learner.search import allocation_context, heurist
    from ws_learner.training import TrainingPhase, build_training_loss, evaluate, train_sparse

    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    task, config = load_task(), WeightSparseConfig(ws_prune_ratio=TARGET)
    model, data, metric = (getattr(task.experiment, n) for n in ("model", "data", "metric"))
    layers = task.layers
    curves: Any = None  # not looked at
    counts = heurist(allocation_context(model, layers, config, curves=curves))
    phase = TrainingPhase(
        phase="sparse",
        data=data,
        criterion=build_training_loss(task.experiment.loss, teacher=None, config=config),
        metric=metric,
        recipe=replace(task.experiment.sparse_recipe, nb_epochs=nb_epochs),
        compute=choose_device(),
        seed=seed,
        log=MetricsLog(folder / "metrics.csv"),
        checkpoint=folder / "sparse.pt",
        process_group=ProcessGroup(rank, size),
    )
    zeros = {row.name: int(count) for row, count in zip(layers, counts, strict=True)}
    sparse, _ = train_sparse(model, zeros, phase=phase, config=config)
    if rank == 0:
        accuracy = evaluate(sparse, data.test, metric, compute=phase.compute)
        write_json(folder / "accuracy.json", accuracy)
    distributed.barrier()
    distributed.destroy_process_group()


def compared(rows: pd.DataFrame, *, reference: int) -> str:
    """Means over seeds and paired differences in points, as a Markdown table."""
    from benchmarks.paired_differences import interval

    wide = 100 * rows.pivot_table(index="seed", columns="ranks", values="accuracy").dropna()
    lines = [f"| ranks | seeds | test accuracy, % | beside {reference} |", "|---|---:|---:|---:|"]
    for ranks in wide:
        ahead = (wide[ranks] - wide[reference]).to_numpy()
        beside = "" if ranks == reference else f"{ahead.mean():+.2f} ± {interval(ahead):.2f}"
        lines.append(f"| {ranks} | {len(wide)} | {wide[ranks].mean():.2f} | {beside} |")
    return "\n".join(lines)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
