"""Save and load shrunk networks: weights, and the original network's new shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path, load_state, read_metadata, save_model
from ws_learner.deploy.copies import copy_of
from ws_learner.deploy.shrinking.shrink import Shrunk
from ws_learner.deploy.shrinking.shrunk_schema import SIZES, read_about, refuse_unfit
from ws_learner.deploy.shrinking.split_attention import SplitAttention, split_where_possible

__all__ = ["load_shrunk", "save_shrunk"]

_KEY, _DIGEST = "shrunk", "digest"


def save_shrunk(shrunk: Shrunk, path: AnyPath) -> None:
    """Write the tensors (safetensors) and a side file that rebuilds the network around them.

    Raises:
        UserError: The file cannot be written, or the network holds more than tensors, as quantised
            ones do.
    """
    path = as_path(path)
    state, model = shrunk.model.state_dict(), shrunk.model
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(
            f"save_shrunk: {other[0]} is no tensor (quantised layers have such state); shrink and "
            "save the float network"
        )
    about = {
        "class": type(model).__name__,
        "original": {name: list(shape) for name, shape in shrunk.original.items()},
        "split": any(isinstance(module, SplitAttention) for module in model.modules()),
        "sizes": {name: _sizes(module) for name, module in model.named_modules()},
    }
    text = json.dumps(about, sort_keys=True)
    metadata = {"format": "pt", _KEY: text, _DIGEST: _digest(state, text)}
    save_model(path, state, metadata)


def load_shrunk(model: nn.Module, path: AnyPath) -> nn.Module:
    """Give a freshly built network the shapes and weights of a shrunk one.

    Args:
        model: Built as the network was before it was shrunk; its weights do not matter.
        path: What `save_shrunk` wrote.

    Returns:
        The very `model`, in evaluation mode.

    Raises:
        UserError: The file is unreadable, damaged or no shrunk network, or belongs to another
            network; then `model` is untouched.
    """
    path = as_path(path)
    text = read_metadata(path).get(_KEY)
    if text is None:
        raise UserError(
            f"{path}: holds no shrunk network (save_shrunk writes one); load plain weights with "
            "model.load_state_dict"
        )
    state = load_state(path)
    if _digest(state, text) != read_metadata(path).get(_DIGEST):
        raise UserError(f"{path}: was changed after it was written; save or copy it again")
    about = read_about(text, path)
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise UserError("load_shrunk: the network has lazy layers; run it once on an example first")
    _check(model, about, path)
    refuse_unfit(copy_of(model), about, state, path)
    if about["split"]:
        split_where_possible(model)
    for name, sizes in about["sizes"].items():
        for attribute, value in sizes.items():
            setattr(model.get_submodule(name), attribute, value)
    _put(model, state)
    return model.eval()


def _sizes(module: nn.Module) -> dict[str, int]:
    """Integer attributes of a module that state its tensor sizes."""
    own = {name: module.__dict__.get(name) for name in SIZES}
    return {name: value for name, value in own.items() if type(value) is int}


def _digest(state: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of the names, types, shapes and values, and of `text`."""
    total = hashlib.sha256(text.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _check(model: nn.Module, about: Mapping[str, Any], path: Path) -> None:
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    wanted: dict[str, list[int]] = about["original"]
    wrong = [
        f"{name}: {own.get(name, 'missing')} here, {wanted.get(name, 'missing')} there"
        for name in dict.fromkeys([*wanted, *own])
        if own.get(name) != wanted.get(name)
    ]
    if wrong:
        raise UserError(
            f"{path}: was made from another network ({about['class']}) than this "
            f"{type(model).__name__}: {len(wrong)} tensors differ, first {wrong[0]}"
        )


@torch.no_grad()
def _put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Assign the tensors to their modules; shared parameters stay shared."""
    shared: dict[int, nn.Parameter] = {}
    for name, tensor in state.items():
        parent, _, leaf = name.rpartition(".")
        module = model.get_submodule(parent)
        if leaf in module._buffers:
            module._buffers[leaf] = tensor
            continue
        old = module._parameters.get(leaf)  # None: a bias that the shrink added
        new = nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
        module._parameters[leaf] = new if old is None else shared.setdefault(id(old), new)
