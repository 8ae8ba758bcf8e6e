"""Your own classifier of images, from a folder of transformers or timm by name, on your images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ws_learner.config import Recipe
from ws_learner.core import check_all, check_settings, complain

if TYPE_CHECKING:
    from experiments.brought.network import BroughtNetwork
    from experiments.experiment import Experiment
    from ws_learner.data import DataSplits

FINE_TUNED = Recipe(
    nb_epochs=10,
    batch_size=32,
    optimizer="adamw",
    lrn_rate=1e-4,
    lrn_schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
)
"""For weights that are trained, but for the head; and for the sparse network."""

FROM_SCRATCH = Recipe(
    nb_epochs=60,
    batch_size=32,
    optimizer="adamw",
    lrn_rate=1e-3,
    lrn_schedule="one-cycle",
    warmup=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
)
"""For fresh weights; AdamW and a warm-up suit convolutions and transformers."""


_MODELS = "hf:DIR, a folder saved with save_pretrained, or timm:NAME, a network of timm"
_IMAGES = "the folder with train/<class>/ and val/<class>/, or with class sub-folders"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this experiment."""

    model: str = ""
    """hf:DIR, a folder saved with save_pretrained; or timm:NAME, a network of timm."""
    data_dir: Path | None = None
    """Folder with train/<class>/, val/<class>/ and perhaps test/<class>/, or with class
    sub-folders."""
    head: Literal["auto", "keep", "new"] = "auto"
    """auto keeps the network's head if its classes are the folders', and else makes a new one; keep
    takes its classes in the folders' order whatever their names; new makes a new one."""
    pretrained: bool = False
    """timm: start from its public weights, downloaded once."""
    image_size: int | None = None
    """Side of an input in pixels, instead of the network's own."""
    augment: bool = True
    """Train on random windows and mirror images."""
    data_workers: int | None = None
    """Processes that decode images; by default one per core, at most four."""

    def __post_init__(self) -> None:
        check_settings(self)
        problems = []
        kind, _, name = self.model.partition(":")
        if self.model and (kind not in ("hf", "timm") or not name):
            problems.append(f"--model {self.model}: must be {_MODELS}")
        if self.pretrained and kind == "hf":
            problems.append("--pretrained: is for timm:NAME; a folder has its own weights")
        if self.image_size is not None and self.image_size < 1:
            problems.append(f"--image_size {self.image_size}: must be 1 pixel or more")
        complain(problems)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.brought.hugging_face import saved_files
    from experiments.brought.network import try_on_images
    from experiments.experiment import Experiment, classification
    from ws_learner.data import class_folders

    needed = {"model": (options.model, _MODELS), "data_dir": (options.data_dir, _IMAGES)}
    complain(
        f"--{name}: needed; give {what}" for name, (given, what) in needed.items() if not given
    )
    images = Path(options.data_dir or "")
    kind, _, name = options.model.partition(":")
    check_all(
        lambda: saved_files(Path(name)) if kind == "hf" else None, lambda: class_folders(images)
    )
    classes = class_folders(images)
    brought = _open(options, classes, seed=seed)
    try_on_images(brought, len(classes), source=options.model)
    fresh = options.model.startswith("timm:") and not options.pretrained
    dense = FROM_SCRATCH if fresh else FINE_TUNED
    loss, metric = classification(dense)
    return Experiment(
        name=f"{brought.name}_image_classifier",
        model=brought.model,
        data=_load(options, images, brought),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=FINE_TUNED,
        outputs="classes",
        trained=brought.trained,
        origin=brought.origin,
        stands_for={"model": brought.content},
        companions=brought.companions,
    )


def _open(options: Options, classes: Sequence[str], *, seed: int) -> BroughtNetwork:
    kind, _, name = options.model.partition(":")
    common: dict[str, Any] = {"head": options.head, "image_size": options.image_size, "seed": seed}
    if kind == "hf":
        from experiments.brought.hugging_face import open_folder

        return open_folder(Path(name), classes, **common)
    from experiments.brought.timm_model import open_timm

    return open_timm(name, classes, pretrained=options.pretrained, **common)


def _load(options: Options, images: Path, brought: BroughtNetwork) -> DataSplits:
    import dataclasses

    import numpy as np
    import numpy.typing as npt

    from ws_learner.data import Examples, PreparedPhotographs, load_image_folder

    order = np.array(brought.order, dtype=np.int64)

    def prepare(files: Sequence[str], labels: npt.NDArray[np.int64], augment: bool) -> Examples:
        return PreparedPhotographs(
            files, order[labels], brought.preparation, augment=augment and options.augment
        )

    data = load_image_folder(
        images,
        image_size=brought.preparation.size,
        workers=options.data_workers,
        prepare=prepare,
        test_folder=True,
    )
    told = f"{data.digest} {brought.preparation} {brought.order}"
    return dataclasses.replace(data, digest=hashlib.sha256(told.encode()).hexdigest())
