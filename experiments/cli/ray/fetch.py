"""Download a run directory from a cluster, using only the Jobs API."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
import tarfile
import zlib
from pathlib import Path
from typing import Protocol

from experiments.cli.ray import pack_run
from experiments.cli.ray.jobs import python_there
from ws_learner.core import UserError, folder_name, say, shown

__all__ = ["fetch", "unpack"]


class _Jobs(Protocol):
    def log(self, run: str) -> str: ...

    def run_small(self, entrypoint: str, *, name: str) -> str: ...


def fetch(jobs: _Jobs, run: str, into: Path) -> Path:
    """Copy the run directory of `run` below `into`; return where it is.

    Raises:
        UserError: The run has no directory yet, or another file is at its place.
    """
    named = re.findall(r"^run directory: (.+?)(?: \(finished\))?$", jobs.log(run), re.MULTILINE)
    if not named:
        raise UserError(f"fetch {run}: the run has no directory yet; see logs {run}")
    there = Path(named[-1])
    if there.name in ("", "..") or folder_name(there.name) != there.name:
        raise UserError(f"fetch {run}: its directory {shown(str(there))} has no plain name")
    source = Path(pack_run.__file__).read_text()
    entrypoint = f"{python_there()} -c {shlex.quote(source)} {shlex.quote(str(there))}"
    output = jobs.run_small(entrypoint, name=f"fetch-{run}")
    here = into / there.name
    unpack(output, here)
    say(f"fetched: {here}")
    return here


def unpack(output: str, here: Path) -> None:
    """Write the folder that `pack_run` printed.

    Raises:
        UserError: The text is damaged, or `here` is another run's directory.
    """
    found = re.search(r"BEGIN ([0-9a-f]{64})\s+([A-Za-z0-9+/=\s]+?)\s+END", output)
    data = base64.b64decode(found[2]) if found else b""
    if not found or hashlib.sha256(data).hexdigest() != found[1]:
        raise UserError("fetch: what arrived is damaged; try again")
    try:
        _extract(data, here)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = shown(str(error) or type(error).__name__)
        raise UserError(f"fetch: what arrived cannot be unpacked in {here} ({reason})") from error


def _extract(data: bytes, here: Path) -> None:
    """Unpack plain files and folders, none of which may lie outside `here`."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        mine = here / "identity.json"
        names = archive.getnames()
        theirs = archive.extractfile("identity.json") if "identity.json" in names else None
        if here.exists() and not (mine.exists() and theirs and mine.read_bytes() == theirs.read()):
            raise UserError(f"fetch: {here} exists and is not this run; move it away")
        archive.extractall(here, filter="data")
