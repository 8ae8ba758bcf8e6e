"""Memory, files and processes of this process and of those that it started, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Readings", "bytes_below", "files_below", "read_processes", "resident"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What a long session may use more and more of.

    Attributes:
        driver_mib: Resident memory of this process.
        workers_mib: That of Ray's rollout workers.
        raylet_mib: That of the raylet.
        gcs_mib: That of Ray's global control store.
        others_mib: That of all other processes below this one.
        processes: Number of processes below this one.
        descriptors: Open file descriptors of this process.
    """

    driver_mib: float
    workers_mib: float
    raylet_mib: float
    gcs_mib: float
    others_mib: float
    processes: int
    descriptors: int


def read_processes() -> Readings:
    """Read them now. Pages that processes share are counted in each."""
    sums = dict.fromkeys(("workers", "raylet", "gcs", "others"), 0.0)
    below = _below(os.getpid())
    for pid in below:
        sums[_kind(pid)] += resident(pid)
    return Readings(
        driver_mib=round(resident(os.getpid()), 2),
        workers_mib=round(sums["workers"], 2),
        raylet_mib=round(sums["raylet"], 2),
        gcs_mib=round(sums["gcs"], 2),
        others_mib=round(sums["others"], 2),
        processes=len(below),
        descriptors=len(os.listdir("/proc/self/fd")),
    )


def resident(pid: int) -> float:
    """Resident memory of a process, in MiB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * _PAGE / _MIB


def files_below(folders: Sequence[Path]) -> int:
    """Number of files in these folders and below."""
    return sum(len(names) for folder in folders for _, _, names in os.walk(folder))


def bytes_below(folder: Path) -> int:
    """Bytes of the files in a folder and below."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_symlink() or not path.is_file() else path.stat().st_size
        except OSError:  # gone meanwhile
            continue
    return total


def _kind(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return "others"
    if line.startswith(b"ray::"):
        return "workers"
    program = line.partition(b" ")[0]
    if program.endswith(b"/raylet"):
        return "raylet"
    return "gcs" if program.endswith(b"/gcs_server") else "others"


def _below(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_below(child)]
    return found
