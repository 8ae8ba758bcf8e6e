"""Files with a known checksum, read from a user's folder, the cache or the network."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ws_learner.core import AnyPath, UserError, as_path, say, write_bytes
from ws_learner.data.download import SourceError, download

__all__ = ["Resource", "cache_folder", "content", "from_url"]

Source = Callable[[Path], bytes]
"""Function from an empty working folder to the file's content; raises `SourceError` on failure."""


def cache_folder() -> Path:
    """Download folder: the environment variable WS_DATA_DIR, else ~/.cache/ws_learner."""
    return Path(os.environ.get("WS_DATA_DIR") or Path.home() / ".cache" / "ws_learner")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A file with a known checksum and its sources.

    Attributes:
        name: Name of the content, for messages.
        file: File name in the cache and in a user's folder.
        digest: SHA-256 of its content, the same for every source.
        sources: Sources, tried in this order.
        readers: Other files that a user's folder may hold instead, by name; each reader converts
            the file's bytes to the content.
        by_hand: Address to download by hand.
    """

    name: str
    file: str
    digest: str
    sources: tuple[Source, ...]
    readers: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    by_hand: str


def from_url(url: str, *, digest: str, megabytes: float) -> Source:
    """A source that downloads one file."""

    def fetch(folder: Path) -> bytes:
        path = folder / "download"
        download(url, path, digest=digest, megabytes=megabytes)
        return path.read_bytes()

    return fetch


def content(resource: Resource, data_dir: AnyPath | None = None) -> bytes:
    """Return the file's bytes after checking them; download to the cache if necessary.

    Args:
        resource: The file.
        data_dir: Folder that holds the file; if given, the network is not used.

    Raises:
        UserError: `data_dir` lacks the file or holds a different one, or no source is reachable.
    """
    data_dir = None if data_dir is None else as_path(data_dir, name="data_dir")
    if data_dir is not None:
        return _from_folder(resource, data_dir)
    path = cache_folder() / resource.file
    if path.exists():
        data = path.read_bytes()
        if _fits(resource, data):
            return data
        say(f"{resource.name}: the cached {path} is damaged; downloading it again")
    data = _fetched(resource, path.parent)
    write_bytes(path, data)
    say(f"{resource.name}: checked and cached in {path}")
    return data


def _fits(resource: Resource, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == resource.digest


def _from_folder(resource: Resource, folder: Path) -> bytes:
    readers = {resource.file: bytes, Path(resource.file).name: bytes, **resource.readers}
    for name, read in readers.items():
        if (folder / name).is_file():
            data = read((folder / name).read_bytes())
            if _fits(resource, data):
                return data
            raise UserError(
                f"`data_dir` {folder}: {name} is not the known {resource.name}, truncated or "
                "altered; download it again"
            )
    raise UserError(
        f"`data_dir` {folder}: no {resource.name} there; expected one of {', '.join(readers)} "
        f"({resource.by_hand})"
    )


def _fetched(resource: Resource, cache: Path) -> bytes:
    reasons = []
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for source in resource.sources:
            with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
                try:
                    data = source(Path(folder))
                    if _fits(resource, data):
                        return data
                    raise SourceError("its checksum does not match")
                except SourceError as error:
                    say(f"{resource.name}: {error}")
                    reasons.append(str(error))
    except OSError as error:
        raise UserError(
            f"cannot use the data cache {cache}: {error.strerror or error}; "
            "set WS_DATA_DIR to a folder with 400 MB free"
        ) from error
    raise UserError(
        f"cannot get {resource.name} from any source ({'; '.join(reasons)}); download "
        f"{resource.by_hand} elsewhere and name its folder with `data_dir`"
    )
