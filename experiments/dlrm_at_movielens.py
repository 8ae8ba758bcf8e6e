"""DLRM (Naumov et al. 2019) on MovieLens-100K: does a user like a film?

    ./run_local.sh dlrm_at_movielens --method group_lasso --pattern 16x4 --prune_ratio 0.5
    python -m experiments.dlrm_at_movielens [--ratio 0.85] [--seeds 3] [--out DIR]

The second form is the published recipe: blocks of 4 inputs x 16 outputs, 85 % of the inner layers
pruned by group lasso, then INT8; it prints each network's area under the curve on the test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["Options", "build", "main"]

NUMBERS = 3
BOTTOM, TOP = (NUMBERS, 256, 128, 16), (512, 256, 1)
INNER = ("net.bot_l.2.weight", "net.top_l.0.weight", "net.top_l.2.weight")


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    data_dir: Path | None = None
    """Folder with ml-100k.inter, .user and .item; without it they are downloaded once
    and cached."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.experiment import Experiment, binary, seeded
    from experiments.models.dlrm import DLRM, OneInput
    from ws_learner.config import Recipe
    from ws_learner.data import CARDINALITIES, load_movielens

    loss, metric = binary()
    plain = {"batch_size": 256, "optimizer": "adamw", "lrn_rate": 2e-3, "lrn_schedule": "linear"}
    return Experiment(
        name="dlrm_at_movielens",
        model=seeded(
            lambda: OneInput(DLRM(CARDINALITIES, bottom=BOTTOM, top=TOP), numbers=NUMBERS), seed
        ),
        data=load_movielens(options.data_dir),
        loss=loss,
        metric=metric,
        dense_recipe=Recipe(nb_epochs=3, weight_decay=1e-2, **plain),  # type: ignore[arg-type]
        sparse_recipe=Recipe(nb_epochs=3, weight_decay=1e-2, **plain),  # type: ignore[arg-type]
        outputs="labels",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train dense and sparse, compile, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ratio", type=float, default=0.85, help="of the inner layers")
    parser.add_argument("--seeds", type=int, default=3, help="networks to train (default 3)")
    parser.add_argument("--data_dir", type=Path, help="folder with the three files")
    parser.add_argument("--out", type=Path, help="folder for dlrm_auc.csv")
    given = parser.parse_args(arguments)
    import pandas as pd

    from experiments.dlrm_training import one_seed

    options = Options(data_dir=given.data_dir)
    rows = []
    for seed in range(given.seeds):
        rows.append(one_seed(build(options, seed=seed), seed=seed, ratio=given.ratio, inner=INNER))
        print(", ".join(f"{k} {v:.5g}" for k, v in rows[-1].items()), flush=True)
    frame = pd.DataFrame(rows)
    print(frame.drop(columns="seed").mean().to_string())
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        frame.to_csv(given.out / "dlrm_auc.csv", index=False, float_format="%.5f")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
