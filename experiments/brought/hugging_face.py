"""Classifiers of images that were saved with transformers' `save_pretrained`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.brought.image_processor import PROCESSOR_FILES, find_preparation
from experiments.brought.network import BroughtNetwork, HeadChoice, class_order
from experiments.experiment import seeded
from ws_learner.core import UserError, check_saved_config, reason_of, say, sha256_of
from ws_learner.language import quiet

__all__ = ["open_folder", "saved_files"]

_WEIGHTS = ("*.safetensors", "*.bin")
_USUAL_SIZE = 224


def open_folder(
    folder: Path, classes: Sequence[str], *, head: HeadChoice, image_size: int | None, seed: int
) -> BroughtNetwork:
    """Open a folder; nothing is downloaded and no code of the folder runs.

    Args:
        folder: With config.json and weights.
        classes: Names of the data's classes.
        head: Whether to keep the head.
        image_size: Side of an input instead of what the folder says.
        seed: Of a new head's weights.

    Raises:
        UserError: transformers is missing, or the folder holds no classifier of images.
    """
    source = f"hf:{folder}"
    files = saved_files(folder)
    automatic = _automatic_class(source)
    with quiet():
        model, lacking = _load(automatic, folder, source)
        heads = _head_tensors(automatic, model.config)
        if others := sorted(lacking - heads):
            raise UserError(
                f"`model` {source}: its weights lack {others[0]} ({len(others)} such tensors); "
                "save the whole network with save_pretrained"
            )
        order, why = _order(model, classes, head=head, headless=bool(lacking))
        if order is None:
            model = _with_new_head(automatic, model, classes, heads, seed=seed)
    if (kept := model.config.dtype) not in (None, torch.float32):
        say(f"{source}: {kept} weights are computed with as float32")
        model.config.dtype = torch.float32
    model.train()
    known = [file for file in (folder / name for name in PROCESSOR_FILES) if file.is_file()]
    default = _default_size(model.config)
    return BroughtNetwork(
        name=str(model.config.model_type),
        model=model,
        trained=order is not None,
        origin=f"{source}, {why}",
        content=f"hf:{_digest([*files, *known])}",
        preparation=find_preparation(folder, image_size=image_size, default=default),
        order=order or tuple(range(len(classes))),
        companions=tuple(known),
    )


def saved_files(folder: Path) -> list[Path]:
    """The config and the weights of such a folder.

    Raises:
        UserError: It is not there, or lacks one of them.
    """
    if not folder.is_dir():
        raise UserError(
            f"`model` hf:{folder}: no such folder; nothing is downloaded, so save the network "
            "there with model.save_pretrained(folder)"
        )
    config = folder / "config.json"
    weights = [file for kind in _WEIGHTS for file in sorted(folder.glob(kind))]
    missing = [] if config.is_file() else ["config.json"]
    missing += [] if weights else ["model.safetensors"]
    if missing:
        raise UserError(
            f"`model` hf:{folder}: no {' and no '.join(missing)} in it; save the network there "
            "with model.save_pretrained(folder)"
        )
    check_saved_config(folder, source=f"hf:{folder}")
    return [config, *weights]


def _automatic_class(source: str) -> Any:
    try:
        from transformers import AutoModelForImageClassification
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise UserError(
            f"`model` {source}: needs transformers: pip install 'transformers>=5,<6'"
        ) from error
    except Exception as error:
        raise _not_importable(source, error) from error
    return AutoModelForImageClassification


def _not_importable(source: str, error: BaseException) -> UserError:
    """A torchvision that was built for another torch, as a rule."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    reason = str(error).strip().partition("\n")[0]
    return UserError(
        f"`model` {source}: transformers cannot be imported ({reason}); a torchvision that was "
        f"built for another torch than {torch.__version__} does that: pip uninstall torchvision"
    )


def _load(automatic: Any, folder: Path, source: str) -> tuple[Any, set[str]]:
    """The network as it was saved, and the names of the tensors that were not."""
    try:
        model, report = automatic.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # many kinds; one line tells all
        reason = reason_of(error)
        if reason.startswith("Could not import module"):
            raise _not_importable(source, error) from error
        if "Unrecognized configuration class" in reason:
            reason = "transformers knows no classifier of images with its config.json"
        raise UserError(f"`model` {source}: cannot be opened: {reason}") from error
    return model, set(report["missing_keys"])


def _order(
    model: Any, classes: Sequence[str], *, head: HeadChoice, headless: bool
) -> tuple[tuple[int, ...] | None, str]:
    names = [str(model.config.id2label[place]) for place in range(model.config.num_labels)]
    if model.config.problem_type not in (None, "single_label_classification"):
        return None, "a new head, as its own is not for one class of several"
    order, why = class_order(names, classes, head=head)
    if order is not None and headless:
        return None, "a new head, as the folder holds none"
    return order, why


def _head_tensors(automatic: Any, config: Any) -> set[str]:
    """Names of the tensors whose shape depends on the number of classes."""
    shapes = []
    for number in (2, 3):
        asked = copy.deepcopy(config)
        asked.num_labels = number
        with torch.device("meta"):
            state = automatic.from_config(asked).state_dict()
        shapes.append({name: tensor.shape for name, tensor in state.items()})
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}


def _with_new_head(
    automatic: Any, model: Any, classes: Sequence[str], heads: set[str], *, seed: int
) -> Any:
    config = copy.deepcopy(model.config)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: place for place, name in enumerate(classes)}
    config.problem_type = None
    fresh = seeded(lambda: automatic.from_config(config), seed)
    state: dict[str, Tensor] = model.state_dict()
    fresh.load_state_dict({n: t for n, t in state.items() if n not in heads}, strict=False)
    return fresh


def _default_size(config: Any) -> int:
    size = getattr(config, "image_size", None)
    size = size[0] if isinstance(size, list | tuple) and size else size
    return size if isinstance(size, int) else _USUAL_SIZE


def _digest(files: Sequence[Path]) -> str:
    parts = " ".join(f"{file.name} {sha256_of(file)}" for file in files)
    return hashlib.sha256(parts.encode()).hexdigest()
