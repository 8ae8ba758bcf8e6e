"""Measured numbers in a cache folder, one file for each machine, engine, version and threads."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, read_json, say, warn, write_json
from ws_learner.data import cache_folder
from ws_learner.deploy.costs.machine import digest_of, machine_key

__all__ = ["TimesFile", "measuring_alone"]


class TimesFile:
    """Numbers by name, kept on disk."""

    def __init__(
        self, folder: Path | None, *, engine: str, versions: Mapping[str, str], threads: int
    ) -> None:
        """Read what there is.

        Args:
            folder: By default `latency` in the cache folder.
            engine: Named in the file.
            versions: Of its libraries.
            threads: Of the engine.
        """
        self.folder = cache_folder() / "latency" if folder is None else folder
        self.key: dict[str, Any] = {
            "engine": engine,
            "machine": machine_key(),
            "versions": dict(versions),
            "threads": threads,
        }
        self.path = self.folder / f"{engine}-{digest_of(self.key)[:16]}.json"
        self.entries: dict[str, Any] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file again, which another process may have written."""
        try:
            found = read_json(self.path)
            if found["key"] == self.key:
                self.entries = dict(found["entries"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            warn(f"costs: {self.path} is damaged; measuring again")

    def keep(self, name: str, entry: Any) -> None:
        """Store an entry at once, so that an interruption loses only one."""
        self.entries[name] = entry
        write_json(self.path, {"key": self.key, "entries": self.entries})


@contextmanager
def measuring_alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine measures, and keep others from it.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".measuring").open("w")
    except OSError as error:
        raise UserError(f"`cache_dir` {folder}: cannot be written ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("costs: another process is measuring on this machine; waiting until it ends")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
