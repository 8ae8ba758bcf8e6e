"""Tensors of a Hugging Face folder, read one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ws_learner.core import UserError, read_json, shown

__all__ = ["DTYPES", "TensorFolder"]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Number formats by their names in a safetensors file."""

_INDEX = "model.safetensors.index.json"


class TensorFolder:
    """The safetensors files of a folder.

    A file is open only while a tensor is read from it, so that its pages do not stay in memory.

    Attributes:
        folder: The folder.
        shapes: Shape of each tensor by its name, in the order of the files.
    """

    def __init__(self, folder: Path) -> None:
        """Read the headers of the files.

        Raises:
            UserError: There are none, or they are damaged.
        """
        self.folder = folder
        self._files: dict[str, Path] = {}
        self._kinds: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in _weight_files(folder):
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  # it is no mapping
                        self._files[name] = path
                        piece = file.get_slice(name)
                        self.shapes[name] = tuple(piece.get_shape())
                        self._kinds[name] = str(piece.get_dtype())
            except (OSError, SafetensorError) as error:
                raise _unreadable(path, error) from error

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def dtype(self, name: str) -> torch.dtype:
        """Number format of a tensor.

        Raises:
            UserError: It is none that networks are pruned in, such as 8-bit floats.
        """
        kind = self._kinds[name]
        if kind not in DTYPES:
            raise UserError(
                f"{self._files[name]}: {shown(name)} is stored as {shown(kind)}; save "
                "the network in 16 or 32 bits"
            )
        return DTYPES[kind]

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored.

        Raises:
            UserError: The file has changed or is damaged.
        """
        path = self._files[name]
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
                return tensor.clone()  # a view would keep the file's pages
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error) from error


def _weight_files(folder: Path) -> list[Path]:
    """The files with weights: one, or those of the index."""
    single, index = folder / "model.safetensors", folder / _INDEX
    if single.is_file():
        return [single]
    if index.is_file():
        listed: Any = read_json(index)
        places = listed.get("weight_map") if isinstance(listed, Mapping) else None
        if not isinstance(places, Mapping) or not places:
            raise UserError(f"{index}: has no weight_map; download the folder again")
        names = sorted({str(place) for place in places.values()})
        bad = next((n for n in names if Path(n).name != n or not (folder / n).is_file()), None)
        if bad is not None:
            raise UserError(f"{index}: names {shown(bad)}, which is not in the folder")
        return [folder / name for name in names]
    more = "; weights as .bin are pickles, which are not read" if any(folder.glob("*.bin")) else ""
    raise UserError(
        f"`model` hf:{folder}: no model.safetensors in it{more}; save the network there with "
        "model.save_pretrained(folder)"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path}: cannot be read ({shown(reason)}); download it again")
