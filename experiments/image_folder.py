"""Base of the experiments on a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from experiments.experiment import Experiment, classification, committed_checkpoint, seeded
from ws_learner.config import Recipe
from ws_learner.core import UserError
from ws_learner.data import load_image_folder

__all__ = ["folder_experiment"]


def folder_experiment(
    name: str,
    network: Callable[[int], nn.Module],
    *,
    data_dir: Path | None,
    image_size: int,
    data_workers: int | None,
    dense_recipe: Recipe,
    sparse_recipe: Recipe,
    seed: int,
) -> Experiment:
    """Build an experiment on the images below `data_dir`.

    Args:
        name: Slug of the experiment.
        network: Number of classes -> network.
        data_dir: Folder with `train/<class>/` and `val/<class>/`, or with class sub-folders.
        image_size: Side of a training image, in pixels.
        data_workers: Processes that decode images; None: one per core, at most four.
        dense_recipe: Training of the dense network.
        sparse_recipe: Training of the sparse network.
        seed: Of the initial weights.

    Raises:
        UserError: There is no such folder, or it holds no images.
    """
    if data_dir is None:
        raise UserError(
            "--data_dir: needed; name the folder with train/<class>/ and val/<class>/ "
            "(ILSVRC-12 is not downloaded: its terms ask every user to sign up)"
        )
    data = load_image_folder(data_dir, image_size=image_size, workers=data_workers)
    loss, metric = classification(dense_recipe)
    return Experiment(
        name=name,
        model=seeded(lambda: network(data.num_classes), seed),
        data=data,
        loss=loss,
        metric=metric,
        dense_recipe=dense_recipe,
        sparse_recipe=sparse_recipe,
        checkpoint=committed_checkpoint(name),
    )
