"""Network weights as safetensors files: written atomically, checked name by name on loading."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ws_learner.core.errors import UserError
from ws_learner.core.files import write_bytes
from ws_learner.core.paths import AnyPath, as_path

__all__ = [
    "load_into",
    "load_state",
    "load_tensors",
    "read_metadata",
    "save_model",
    "write_tensors",
]

_SHOWN = 3


def save_model(
    path: AnyPath, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write the tensors under their names, atomically.

    Tensors that share memory (tied weights) are written once per name, so that the file loads
    into the same network without extra information.

    The same tensors and metadata always give the same bytes.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    path = as_path(path)
    # Copies: the format does not support views or shared memory.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()
    }
    write_bytes(path, _with_metadata(safetensors.torch.save(tensors), metadata))


def write_tensors(
    path: AnyPath, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file without a copy in memory, as a writer of `write_with`.

    Raises:
        OSError: The disk is full; the library itself raises an error of its own.
    """
    try:
        safetensors.torch.save_file(dict(tensors), as_path(path), metadata=dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put sorted metadata into the header; the safetensors library writes it in random order.

    The format: 8 bytes with the header's length (little-endian), the header as JSON, the tensors.
    Tensor offsets count from the header's end (https://huggingface.co/docs/safetensors).
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_state(path: AnyPath) -> dict[str, Tensor]:
    """Read all tensors of a file, on the CPU.

    Raises:
        UserError: The file cannot be read or is not a safetensors file.
    """
    path = as_path(path)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def read_metadata(path: AnyPath) -> dict[str, str]:
    """Read the metadata that `save_model` wrote with the tensors.

    Raises:
        UserError: The file cannot be read or is not a safetensors file.
    """
    path = as_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def load_into(model: nn.Module, path: AnyPath) -> None:
    """Load a file into `model`, which must have exactly the file's names and shapes.

    Raises:
        UserError: The file is unreadable or belongs to another network; `model` is unchanged.
    """
    path = as_path(path)
    load_tensors(model, load_state(path), path)


def load_tensors(model: nn.Module, state: Mapping[str, Tensor], path: AnyPath) -> None:
    """Load tensors read from `path` into `model`; see `load_into`.

    Raises:
        UserError: They belong to another network; `model` is unchanged.
    """
    path = as_path(path)
    own: dict[str, Tensor] = model.state_dict()
    problems = [
        _some("missing", (name for name in own if name not in state)),
        _some("unexpected", (name for name in state if name not in own)),
        _some(
            "different shape:",
            (
                f"{name} {_shape(state[name])} instead of {_shape(own[name])}"
                for name in own
                if name in state and state[name].shape != own[name].shape
            ),
        ),
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise UserError(
            f"{path} is a checkpoint of another network, not of {type(model).__name__}: "
            f"{'; '.join(found)}; give a matching file or choose the matching network"
        )
    model.load_state_dict(state)


def _some(label: str, names: Iterable[str]) -> str:
    """A label and the first few names; empty if there are none."""
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{label} {', '.join(listed[:_SHOWN])}{more}" if listed else ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file; give the path of a .safetensors checkpoint")
    if isinstance(error, OSError):
        return UserError(f"{path}: cannot read it: {error.strerror or error}")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"{path} is not a valid safetensors file ({reason}); "
        "download or train it again, or convert a .pth file with safetensors.torch.save_file"
    )
