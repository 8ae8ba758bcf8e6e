"""Save and load cropped networks: weights, and a side file with the shapes."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ws_learner.core import (
    AnyPath,
    UserError,
    as_path,
    load_into,
    read_json,
    reading,
    save_model,
    shown,
    write_json,
    write_with,
)
from ws_learner.deploy.shrinking.crop import Cropped, Kept, crop_to

__all__ = ["SIDE_FILE", "load_cropped", "read_kept", "save_cropped"]

SIDE_FILE = "cropped.json"
WEIGHTS = "model.safetensors"
_VERSION = 1
_ROOM, _TIMES = 64 << 20, 1000  # bytes of the dense network, and times those of what is left


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
        kept = TypeAdapter(tuple[Kept, ...]).validate_python(read_json(path)["kept"])
        for entry in kept:
            _refuse_units(entry)
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a side file of a cropped network") from error
    return kept


def _refuse_units(entry: Kept) -> None:
    """Raise a ValueError unless the units that stay are some of the group's, in order."""
    units = entry.units
    if not 0 < entry.group.units < 1 << 20 or list(units) != sorted(set(units)):
        raise ValueError("units that are none")
    if units and not 0 <= units[0] <= units[-1] < entry.group.units:
        raise ValueError("units that are none of the group's")


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
    with reading(folder / SIDE_FILE, "it does not fit the network; save it again"):
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
    with reading(path, "give the dense network as `model`"):
        config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        name = str((config.architectures or [""])[0])
        kind = getattr(transformers, name, None)
        if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
            raise UserError(
                f"{path}: transformers has no network {shown(name)}; give the dense network as "
                "`model`"
            )
        _refuse_larger(kind, config, folder)
        model: nn.Module = kind(config)
    return model


def _refuse_larger(kind: type, config: Any, folder: Path) -> None:
    """Refuse a config whose network is far larger than the weights of what is left of it."""
    with torch.device("meta"):
        planned = sum(4 * tensor.numel() for tensor in kind(config).parameters())
    there = (folder / WEIGHTS).stat().st_size
    if planned > _ROOM + _TIMES * there:
        raise UserError(
            f"{folder}: config.json describes a network of {planned / 2**30:.1f} GiB, which "
            f"{there / 2**20:.1f} MiB of weights cannot be left of; give the dense network as "
            "`model`"
        )


def _check(model: nn.Module, kept: Sequence[Kept], folder: Path) -> None:
    parameters = dict(model.named_parameters())
    for entry in kept:
        for member in entry.group.members:
            if member.weight not in parameters:
                raise UserError(
                    f"{folder} is of another network than {type(model).__name__}: it has no "
                    f"{member.weight}"
                )
