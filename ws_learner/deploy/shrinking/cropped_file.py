"""Save and load cropped networks: weights, and a side file with the shapes."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from ws_learner.core import (
    AnyPath,
    UserError,
    as_path,
    load_into,
    read_json,
    save_model,
    write_json,
    write_with,
)
from ws_learner.deploy.shrinking.crop import Cropped, Kept, crop_to

__all__ = ["SIDE_FILE", "load_cropped", "read_kept", "save_cropped"]

SIDE_FILE = "cropped.json"
WEIGHTS = "model.safetensors"
_VERSION = 1


def save_cropped(cropped: Cropped, folder: AnyPath) -> None:
    """Write weights, side file and, for a Hugging Face model, its `config.json`.

    The config says what the dense network was; the side file which heads and neurons are left.

    Raises:
        UserError: The folder cannot be written.
    """
    folder = as_path(folder, name="folder")
    model = cropped.model
    save_model(folder / WEIGHTS, model.state_dict(), {"format": "pt"})
    kept = [dataclasses.asdict(entry) for entry in cropped.kept]
    write_json(folder / SIDE_FILE, {"version": _VERSION, "kept": kept})
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_json_string"):
        whole = config.to_dict() | {"architectures": [_public_class(model)]}
        write_json(folder / "config.json", whole)
        write_with(folder / "README.md", lambda path: path.write_text(_NOTE))


_NOTE = """Heads and neurons are removed here: the tensors are smaller than `config.json` says.

    from ws_learner.deploy.shrinking.cropped_file import load_cropped
    model = load_cropped("this folder")
"""


def _public_class(model: nn.Module) -> str:
    """The nearest class of transformers itself, which others can import too."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith("transformers."):
            return kind.__name__
    return type(model).__name__


def read_kept(folder: Path) -> tuple[Kept, ...]:
    """Read the kept units from the side file.

    Raises:
        UserError: The file is missing or is none of ours.
    """
    path = folder / SIDE_FILE
    if not path.exists():
        raise UserError(f"{folder}: no {SIDE_FILE}; not a folder of a cropped network")
    try:
        return TypeAdapter(tuple[Kept, ...]).validate_python(read_json(path)["kept"])
    except (ValidationError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a side file of a cropped network") from error


def load_cropped(folder: AnyPath, model: nn.Module | None = None) -> nn.Module:
    """Rebuild a cropped network.

    Args:
        folder: What `save_cropped` wrote.
        model: The dense network, with any values; by default the transformers class
            that the folder's `config.json` names.

    Raises:
        UserError: The folder lacks something, or the network is another one.
    """
    folder = as_path(folder, name="folder")
    kept = read_kept(folder)
    dense = _dense(folder) if model is None else model
    _check(dense, kept, folder)
    slim = crop_to(dense, kept)
    load_into(slim, folder / WEIGHTS)
    return slim.eval()


def _dense(folder: Path) -> nn.Module:
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder}: has no config.json; give the dense network as `model`")
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError("loading it needs transformers: pip install -e '.[text]'") from error
    config = transformers.AutoConfig.from_pretrained(str(folder))
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    if kind is None:
        raise UserError(
            f"{path}: transformers has no {config.architectures}; give the dense network as `model`"
        )
    model: nn.Module = kind(config)
    return model


def _check(model: nn.Module, kept: Sequence[Kept], folder: Path) -> None:
    parameters = dict(model.named_parameters())
    for entry in kept:
        for member in entry.group.members:
            if member.weight not in parameters:
                raise UserError(
                    f"{folder} is of another network than {type(model).__name__}: it has no "
                    f"{member.weight}"
                )
