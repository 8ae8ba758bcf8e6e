"""Published recipe of DLRM: dense training, group lasso, INT8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from experiments.experiment import Experiment
from ws_learner.core import ComputeDevice
from ws_learner.data import Split
from ws_learner.deploy import compile_sparse
from ws_learner.pruning import GroupLassoConfig, Sparsifier, parse_pattern

__all__ = ["area_under_curve", "auc", "one_seed"]


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the receiver's curve: how often a 1 scores above a 0, ties counting half."""
    from scipy.stats import rankdata

    positive = labels.numpy().astype(bool)
    ranks, ones = rankdata(scores.numpy()), int(positive.sum())
    zeros = len(positive) - ones
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def one_seed(
    experiment: Experiment, *, seed: int, ratio: float, inner: Sequence[str]
) -> dict[str, float]:
    """Train and compare; the sparse network starts from the dense one.

    Returns:
        Areas under the curve on the test rows, and their ratios to the dense one.
    """
    dense = experiment.model
    _train(experiment, dense, epochs=experiment.dense_recipe.nb_epochs, seed=seed)
    sparse = copy.deepcopy(dense)
    recipe = experiment.sparse_recipe
    steps = int(recipe.nb_epochs) * -(-len(experiment.data.train) // recipe.batch_size)
    config = GroupLassoConfig(
        pattern=parse_pattern("16x4"), alpha=0.001, mask_update_step=10, iter_ratio_end=0.5
    )
    sparsifier = Sparsifier(sparse, config, ratios=dict.fromkeys(inner, ratio), total_steps=steps)
    _train(experiment, sparse, epochs=recipe.nb_epochs, seed=seed + 1000, attach=sparsifier.attach)
    sparse = sparsifier.finalize()
    calibration = [
        x for _, (x, _) in zip(range(8), experiment.data.train.batches(2048), strict=False)
    ]
    found = {"dense fp32": dense, "sparse fp32": sparse}
    for name, model in (("dense int8", dense), ("sparse int8", sparse)):
        found[name] = compile_sparse(
            model.eval(), calibration[0], dtype="int8", calibration=calibration
        )
    areas = {name: area_under_curve(model, experiment.data.test) for name, model in found.items()}
    shares = {f"{name} share": area / areas["dense fp32"] for name, area in areas.items()}
    zeros = [float((sparse.get_parameter(n) == 0).double().mean()) for n in inner]
    return {"seed": seed, "sparsity": float(np.mean(zeros)), **areas, **shares}


def _train(
    experiment: Experiment,
    model: nn.Module,
    *,
    epochs: float,
    seed: int,
    attach: Callable[[torch.optim.Optimizer], object] | None = None,
) -> None:
    recipe = experiment.dense_recipe
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lrn_rate, weight_decay=0.01)
    steps = int(epochs) * -(-len(experiment.data.train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    if attach is not None:
        attach(optimizer)
    model.train()
    for epoch in range(int(epochs)):
        for x, y in experiment.data.train.batches(recipe.batch_size, seed=seed + epoch):
            optimizer.zero_grad()
            experiment.loss(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def area_under_curve(
    model: nn.Module, split: Split, *, compute: ComputeDevice | None = None
) -> float:
    """`auc` of a network's logits on a split, in evaluation mode; on the CPU by default."""
    place = compute.place if compute else lambda x: x
    pairs = [(model.eval()(place(x)).float().cpu(), y) for x, y in split.batches(2048)]
    scores, labels = (torch.cat(list(parts)) for parts in zip(*pairs, strict=True))
    return auc(scores, labels)
